"""Where the report's figures do not fit each other, or the machine: the arithmetic, as data.

No figure is typed here: each comes from a claim, from the network's description, from a record, or
from those before it. Tables and tests read the same numbers. A module a subject; a function an
argument, from what it reads in the report to what follows.
"""

from __future__ import annotations

import pandas as pd

from ae_book.report.claims import Claims, shown
from ae_book.report.contradictions import machine, memory, profiles, speedups, totals
from ae_book.report.contradictions.argument import Argument, Contradiction
from ae_book.report.quantities import Records

SUBJECTS = {
    "totals": totals.ARGUMENTS,
    "speed-ups": speedups.ARGUMENTS,
    "profile": profiles.ARGUMENTS,
    "machine": machine.ARGUMENTS,
    "memory": memory.ARGUMENTS,
}


def find_all(claims: Claims, records: Records) -> list[Contradiction]:
    """Every contradiction, with what a run measured where that bears on it."""
    found = []
    for subject, arguments in SUBJECTS.items():
        for title, conclude in arguments.items():
            argument = Argument(claims, records)
            follows = conclude(argument)
            found.append(Contradiction(subject, title, tuple(argument.figures), follows))
    return found


def table(contradiction: Contradiction) -> pd.DataFrame:
    """One row a figure: what it is, its value, and where it stands or how it comes about."""
    return pd.DataFrame(
        {
            "": figure.what,
            "figure": figure.as_printed or shown(figure.value, figure.unit),
            "where": figure.where,
        }
        for figure in contradiction.figures
    )
