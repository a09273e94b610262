"""Pictures of what a store holds."""

from singan_aug.report.contact_sheet import contact_sheet

__all__ = ["contact_sheet"]
