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
from ae_core.numbers import between, count, digits, percent, times
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
            "ms per image": digits(_scaled(row.per_image, 1e3)),
            f"s per {count(IMAGES_PER_EPOCH)}": digits(row.per_epoch)
            + (" extrapolated" if row.extrapolated else ""),
            "over plain loops": times(row.speedup(BASIS[0])),
            "over parallel loops": times(row.speedup(BASIS[1])),
            "over previous phase": times(row.speedup(row.previous) if row.previous else None),
            "training, s": digits(row.trained_seconds),
            "of images": count(row.trained_images) if row.trained_images else "",
            "host MiB": digits(_scaled(row.host_memory, 2**-20)),
            "GPU MiB": digits(_scaled(row.device_memory, 2**-20)),
            "TFLOP/s": digits(_scaled(row.flops_rate, 1e-12)),
            "of roofline": percent(row.roofline_share),
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
        timed = one_machine(rows_of(records, origin, origin != OWN))
        columns[f"{origin}, ms"] = {
            n: digits(_scaled(timed[n].per_image, 1e3)) for n in names if n in timed
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
            "steps": count(step.n),
            "median, ms": digits(1e3 * step.median),
            "80 % within": between(1e3 * step.low, 1e3 * step.high),
            "mean over median": digits(step.total / step.n / step.median),
            "median in other runs": _others(step, everything),
            "trained, ms an image": digits(
                1e3 * row.training.seconds_per_image if row.training else None
            ),
        }
        for row, step in timed
    )


def _others(step: StepTime, records: Sequence[Record]) -> str:
    """The least and the most of the same phase's medians elsewhere in a run."""
    steps = [r.step for r in records if isinstance(r, ProfileRecord)]
    steps += [s for r in records if isinstance(r, BenchmarkRecord) for s in r.steps]
    of = ("name", "device", "threads", "batch_size")
    medians = [
        1e3 * s.median
        for s in steps
        if s != step and all(getattr(s, field) == getattr(step, field) for field in of)
    ]
    return between(min(medians), max(medians)) if medians else ""


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
