"""What an argument about the report is made of: figures, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from ae_book.report.claims import Claims
from ae_book.report.quantities import OPERATIONS, Records
from ae_core.architecture import Architecture
from ae_core.records import IMAGES_PER_EPOCH

MEASURED = "measured here"
COUNTED = "counted"
"""How a figure comes about that the report does not state."""


@dataclass(frozen=True)
class Figure:
    """A step of the arithmetic."""

    what: str
    value: float
    unit: str
    where: str
    """The place in the report, or how it comes about."""
    as_printed: str = ""


@dataclass(frozen=True)
class Contradiction:
    """Figures that can't all be right."""

    subject: str
    """A key of `SUBJECTS`."""
    title: str
    figures: tuple[Figure, ...]
    follows: str
    """What the arithmetic says, in a sentence."""

    def __getitem__(self, what: str) -> float:
        """A figure's value, by what it is."""
        return next(figure.value for figure in self.figures if figure.what == what)


class Argument:
    """Collects the figures of a contradiction while they are worked out."""

    def __init__(self, claims: Claims, records: Records) -> None:
        self.claims, self.records = claims, records
        self.network = Architecture()
        self.figures: list[Figure] = []

    def said(self, *names: str) -> list[float]:
        """Figures that the report states."""
        found = [self.claims[name] for name in names]
        self.figures += [Figure(c.says, c.number, c.unit, c.where, c.shown) for c in found]
        return [claim.number for claim in found]

    def add(self, what: str, value: float, unit: str, where: str = "follows") -> float:
        """A figure that follows, or comes from elsewhere."""
        self.figures.append(Figure(what, value, unit, where))
        return value

    def flops(self, operations: str) -> float:
        """Floating-point operations of an epoch in a kind of operations: a key of `OPERATIONS`."""
        costs = (c.flops for c in self.network.costs() if c.operation in OPERATIONS[operations])
        return float(IMAGES_PER_EPOCH * sum(costs))
