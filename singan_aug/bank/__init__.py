"""The bank: variants drawn beforehand. Reading one loads nothing that drawing needs."""

from typing import TYPE_CHECKING

import lazy_loader

from singan_aug.bank._bank import Bank as Bank
from singan_aug.bank._file import Banked as Banked
from singan_aug.bank._file import BankSpec as BankSpec
from singan_aug.bank._file import Entry as Entry
from singan_aug.bank._file import Slot as Slot
from singan_aug.bank._file import bank_bytes as bank_bytes

if TYPE_CHECKING:
    from singan_aug.bank._background import BackgroundBank as BackgroundBank
    from singan_aug.bank._draw import BankPlan as BankPlan
    from singan_aug.bank._draw import BankProgress as BankProgress
    from singan_aug.bank._draw import BankReport as BankReport
    from singan_aug.bank._draw import draw_bank as draw_bank
    from singan_aug.bank._draw import plan_bank as plan_bank
    from singan_aug.bank._draw import remove_bank as remove_bank
    from singan_aug.bank._writer import BankWriter as BankWriter

__all__ = [
    "BackgroundBank",
    "Bank",
    "BankPlan",
    "BankProgress",
    "BankReport",
    "BankSpec",
    "BankWriter",
    "Banked",
    "Entry",
    "Slot",
    "bank_bytes",
    "draw_bank",
    "plan_bank",
    "remove_bank",
]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "_background": ["BackgroundBank"],
        "_draw": ["BankPlan", "BankProgress", "BankReport", "draw_bank", "plan_bank", "remove_bank"],
        "_writer": ["BankWriter"],
    },
)


def __dir__() -> list[str]:
    return list(__all__)
