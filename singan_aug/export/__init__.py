"""An augmented copy of a dataset folder, labels carried, for tools that take no transform."""

from singan_aug.export._export import Exported, ExportReport, Settings, export_dataset
from singan_aug.export._layouts import LAYOUTS

__all__ = ["LAYOUTS", "ExportReport", "Exported", "Settings", "export_dataset"]
