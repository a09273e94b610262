"""What a store holds, to look at: a contact sheet, and a page of all of it."""

from singan_aug.report.contact_sheet import contact_sheet, titled_rows
from singan_aug.report.html import Report, make_report

__all__ = ["Report", "contact_sheet", "make_report", "titled_rows"]
