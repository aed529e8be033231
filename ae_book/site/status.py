"""What was executed, where and when: a row for each chapter of each run."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ae_book.making import chapters
from ae_book.making.runs import Run
from ae_book.showing import tables


def markdown(run: Run, others: Sequence[Run] = ()) -> list[str]:
    """A table for this run and each other one, as lines of Markdown."""
    lines: list[str] = []
    for each in (run, *others):
        lines += [f"**{each.title}**, {each.detail}", "", *tables.markdown(_rows(each)), ""]
        found = [e for c in chapters.names() if (e := each.execution(c))]
        minutes = sum(execution.seconds for execution in found) / 60
        lines += [f"{len(found)} chapters, executed in {minutes:.1f} minutes.", ""]
    return lines


def _rows(run: Run) -> pd.DataFrame:
    rows = []
    for chapter in chapters.names():
        row = dict.fromkeys(("executed", "seconds", "device", "data", "commit"), "")
        execution = run.execution(chapter)
        if execution:
            facts = execution.provenance
            commit = facts.commit[:9] if facts.commit else "none"
            row |= {
                "executed": f"{facts.created:%Y-%m-%d %H:%M}",
                "seconds": f"{execution.seconds:.0f}",
                "device": facts.gpu.model if facts.gpu else facts.cpu,
                "data": execution.dataset.label,
                "commit": f"{commit}, changed" if facts.modified else commit,
            }
        rows.append({"chapter": f"{{doc}}`{chapter}`", **row})
    return pd.DataFrame(rows)
