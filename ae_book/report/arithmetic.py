"""What follows from numbers that the report prints: a table of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ae_book.report.claims import Claims
from ae_core.numbers import with_unit

FOLLOWS = "follows"
COUNTED = "counted"
MEASURED = "measured here"
"""How a number comes about that the report does not print: from the rows above, from the network's
description, from a record of this book."""

Result = tuple[float | None, str] | tuple[float | None, str, str]
"""A value, its unit, and how it comes about: `FOLLOWS` where that is left out."""


def table(claims: Claims, printed: Sequence[str], results: Mapping[str, Result]) -> pd.DataFrame:
    """One row a printed number, as printed and with its place; then one a result.

    Args:
        claims: by id.
        printed: ids of the claims that the results are made from.
        results: by what they are; those whose value is None are left out.
    """
    rows = [[claims[name].says, claims[name].shown, claims[name].where] for name in printed]
    for what, (value, unit, *origin) in results.items():
        if value is not None:
            rows.append([what, with_unit(value, unit), *(origin or [FOLLOWS])])
    return pd.DataFrame(rows, columns=["", "value", "where"])
