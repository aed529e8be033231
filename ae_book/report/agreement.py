"""The report's numbers beside this book's, and how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from ae_book.report.claims import Claim, Claims
from ae_book.report.quantities import QUANTITIES, Answer, Records
from ae_core.numbers import digits, with_unit

AGREES = 1.1
"""A number agrees if it is off by this factor at most, either way."""
NEAR = 2.0
"""Likewise for near; of classes that are named, one in so many must be the same."""
CHANCE = 2.0
"""Shares of counted images agree within so many standard errors of their difference."""


@dataclass(frozen=True)
class Row:
    """A claim, and what this book measured in its place."""

    claim: Claim
    ours: Answer

    @property
    def ratio(self) -> float | None:
        """Ours over the report's; where that is a range, over its nearest point."""
        if not isinstance(self.ours, (int, float)) or self.claim.value is None:
            return None
        low, high = sorted((self.claim.value, self.claim.to or self.claim.value))
        return self.ours / min(max(self.ours, low), high)

    @property
    def agreement(self) -> str:
        """`agrees`, `near` or `differs`; or `not measured here`."""
        if self.ours is None:
            return "not measured here"
        quantity = QUANTITIES.get(self.claim.measured or "")
        counted = quantity.counted if quantity else 0
        if counted and isinstance(self.ours, float) and self.claim.value is not None:
            return "agrees" if by_chance(self.claim.value, self.ours, counted) else "differs"
        if self.ratio is not None:
            return verdict(self.ratio)
        ours = self.ours if isinstance(self.ours, tuple) else ()
        return verdict(len({*self.claim.names} & {*ours}) / len(self.claim.names))


def by_chance(one: float, other: float, counted: int) -> bool:
    """Whether two shares, in percent of so many images each, could be one share seen twice."""
    share = (one + other) / 200
    error = 100 * (2 * share * (1 - share) / counted) ** 0.5
    return abs(one - other) <= CHANCE * error


def verdict(ratio: float) -> str:
    """What a number is called that is `ratio` times another, or a part of it in common."""
    for word, factor in (("agrees", AGREES), ("near", NEAR)):
        if 1 / factor <= ratio <= factor:
            return word
    return "differs"


def compare(claims: Claims, records: Records) -> list[Row]:
    """Every claim that can get a verdict, beside what this book measured."""
    asked = (claim for claim in claims.values() if claim.measured)
    return [Row(claim, QUANTITIES[claim.measured or ""].of(records)) for claim in asked]


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """One row a claim: the report's number, ours, their ratio, and how far they agree."""
    return pd.DataFrame(
        {
            "claim": row.claim.says,
            "the report": row.claim.shown,
            "this book": _shown(row.ours, row.claim.unit),
            "ratio": digits(row.ratio),
            "": row.agreement,
        }
        for row in rows
    )


def unjudged(claims: Claims) -> pd.DataFrame:
    """One row a claim that can get no verdict, and why."""
    return pd.DataFrame(
        {
            "claim": claim.says,
            "the report": claim.shown,
            "where": claim.where,
            "no verdict": claim.not_comparable,
        }
        for claim in claims.values()
        if claim.not_comparable
    )


def tally(rows: Iterable[Row]) -> str:
    """How many claims got which verdict, as a sentence."""
    counts = Counter(row.agreement for row in rows)
    missing = counts.pop("not measured here", 0)
    agree, near, differ = (counts.pop(word, 0) for word in ("agrees", "near", "differs"))
    return (
        f"Of {agree + near + differ} numbers with a verdict, {agree} agree, {near} are near and "
        f"{differ} differ; {missing} were not measured in this run."
    )


def _shown(ours: Answer, unit: str) -> str:
    return ", ".join(ours) if isinstance(ours, tuple) else with_unit(ours, unit)
