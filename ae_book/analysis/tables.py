"""The tables of the chapter that compares all phases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ae_book.analysis.side_by_side import (
    BASIS,
    OWN,
    PEERS,
    STORY,
    Records,
    Row,
    machines,
    one_machine,
    rows_of,
)
from ae_core.numbers import digits
from ae_core.phases import title
from ae_core.records import IMAGES_PER_EPOCH, BenchmarkRecord, ProfileRecord, Record, StepTime


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a phase or library; what was not measured is left empty.

    The column `from` is there where not all rows are of this run, or of one machine.
    """
    groups = machines(rows)
    frame = pd.DataFrame(
        {
            "implementation": title(row.name),
            "from": origin,
            "on": row.unit,
            "ms per image": _digits(row.per_image, 1e3),
            f"s per {IMAGES_PER_EPOCH:,}": _digits(row.per_epoch)
            + (" extrapolated" if row.extrapolated else ""),
            "over plain loops": _times(row.speedup(BASIS[0])),
            "over parallel loops": _times(row.speedup(BASIS[1])),
            "over previous phase": _times(row.speedup(row.previous) if row.previous else None),
            "training, s": _digits(row.trained_seconds),
            "of images": f"{row.trained_images:,}" if row.trained_images else "",
            "host MiB": _digits(row.host_memory, 2**-20),
            "GPU MiB": _digits(row.device_memory, 2**-20),
            "TFLOP/s": _digits(row.flops_rate, 1e-12),
            "of roofline": _percent(row.roofline_share),
            "key change": STORY.get(row.name) or PEERS.get(row.name, ""),
        }
        for origin, group in groups.items()
        for row in group
    )
    alike = [*groups] in ([], [OWN])
    return frame.drop(columns="from", errors="ignore") if alike else frame


def beside(own: Records, published: Mapping[str, Records]) -> pd.DataFrame:
    """One row a phase or library, a column a run or edition: milliseconds per image. No ratios."""
    names = [*STORY, *PEERS]
    columns = {}
    for origin, records in {OWN: own, **published}.items():
        found = one_machine(rows_of(records, origin, origin != OWN))
        columns[f"{origin}, ms"] = {
            n: _digits(found[n].per_image, 1e3) for n in names if n in found
        }
    frame = pd.DataFrame(columns, index=pd.Index(names)).dropna(how="all").fillna("")
    return frame.rename(title).rename_axis("implementation").reset_index()


def spread(rows: Sequence[Row], records: Iterable[Record]) -> pd.DataFrame:
    """How far each step's time can be trusted: one row a phase or library that was timed.

    Args:
        rows: of the machine whose records these are.
        records: all that a run measured: a phase may have been timed more than once.
    """
    timed, everything = [(row, row.step) for row in rows if row.step], [*records]
    return pd.DataFrame(
        {
            "implementation": title(row.name),
            "on": row.unit,
            "steps": f"{step.n:,}",
            "median, ms": _digits(step.median, 1e3),
            "80 % within": _range(step.low, step.high),
            "mean over median": _digits(step.total / step.n / step.median),
            "median in other runs": _others(step, everything),
            "trained, ms an image": _digits(
                row.training.seconds_per_image if row.training else None, 1e3
            ),
        }
        for row, step in timed
    )


def _others(step: StepTime, records: Sequence[Record]) -> str:
    """The least and the most of the same phase's medians elsewhere in a run."""
    found = [r.step for r in records if isinstance(r, ProfileRecord)]
    found += [s for r in records if isinstance(r, BenchmarkRecord) for s in r.steps]
    of = ("name", "device", "threads", "batch_size")
    medians = [
        s.median
        for s in found
        if s != step and all(getattr(s, field) == getattr(step, field) for field in of)
    ]
    return _range(min(medians), max(medians)) if medians else ""


def _range(low: float, high: float) -> str:
    ends = _digits(low, 1e3), _digits(high, 1e3)
    return " to ".join(dict.fromkeys(ends))


def _digits(value: float | None, factor: float = 1.0) -> str:
    return "" if value is None else digits(value * factor)


def _times(value: float | None) -> str:
    return "" if value is None else f"{digits(value)}x"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{digits(100 * share)}%"
