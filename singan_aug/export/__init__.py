"""An augmented copy of a dataset folder, labels carried, for tools that take no transform."""

from singan_aug.export._export import export_dataset
from singan_aug.export._layouts import LAYOUTS
from singan_aug.export._plan import Exported, ExportReport

__all__ = ["LAYOUTS", "ExportReport", "Exported", "export_dataset"]
