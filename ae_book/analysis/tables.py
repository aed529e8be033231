"""The tables of the chapter that compares all phases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ae_book.analysis.side_by_side import (
    BASIS,
    OWN,
    Records,
    Row,
    Variant,
    machines,
    one_machine,
    rows_of,
)
from ae_core.numbers import between, count, digits, percent, times
from ae_core.records import IMAGES_PER_EPOCH, BenchmarkRecord, ProfileRecord, Record, StepTime


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a phase or library; what was not measured is left empty.

    The column `from` is there where not all rows are of this run, or of one machine.
    """
    groups = machines(rows)
    frame = pd.DataFrame(
        {
            "implementation": row.title,
            "from": origin,
            "on": row.unit,
            "ms per image": digits(_scaled(row.per_image, 1e3)),
            f"s per {count(IMAGES_PER_EPOCH)}": digits(row.per_epoch)
            + (" extrapolated" if row.extrapolated else ""),
            "over plain loops": times(row.speedup(BASIS[0])),
            "over parallel loops": times(row.speedup(BASIS[1])),
            "over previous phase": times(row.gain),
            "training, s": digits(row.trained_seconds),
            "of images": count(row.trained_images) if row.trained_images else "",
            "host MiB": digits(_scaled(row.host_memory, 2**-20)),
            "GPU MiB": digits(_scaled(row.device_memory, 2**-20)),
            "TFLOP/s": digits(_scaled(row.flops_rate, 1e-12)),
            "of roofline": percent(row.roofline_share),
            "key change": row.change,
        }
        for origin, group in groups.items()
        for row in group
    )
    alike = [*groups] in ([], [OWN])
    return frame.drop(columns="from", errors="ignore") if alike else frame


def beside(own: Records, published: Mapping[str, Records]) -> pd.DataFrame:
    """One row a phase or library, a column a run or edition: milliseconds per image. No ratios."""
    timed: dict[Variant, dict[str, str]] = {}
    origins = {OWN: own, **published}
    for origin, records in origins.items():
        for row in one_machine(rows_of(records, origin, origin != OWN)):
            timed.setdefault(Variant.of(row), {})[origin] = digits(_scaled(row.per_image, 1e3))
    return pd.DataFrame(
        {
            "implementation": variant.title,
            **{f"{origin}, ms": found.get(origin, "") for origin in origins},
        }
        for variant, found in sorted(timed.items(), key=lambda item: item[0].place)
    )


def spread(rows: Sequence[Row], records: Iterable[Record]) -> pd.DataFrame:
    """How far each step's time can be trusted: one row a phase or library that was timed.

    Args:
        rows: of the machine whose records these are.
        records: all that a run measured: a phase may have been timed more than once.
    """
    timed, everything = [(row, row.step) for row in rows if row.step], [*records]
    return pd.DataFrame(
        {
            "implementation": row.title,
            "on": row.unit,
            "steps": count(step.n),
            "ms per image": digits(1e3 * step.per_image),
            "80 % within": between(*(1e3 * t / step.batch_size for t in (step.low, step.high))),
            "mean over median": digits(step.total / step.n / step.median),
            "median in other runs": _others(step, everything),
            "trained, ms an image": digits(
                1e3 * row.training.seconds_per_image if row.training else None
            ),
        }
        for row, step in timed
    )


def _others(step: StepTime, records: Sequence[Record]) -> str:
    """The least and the most of the same phase's medians per image elsewhere in a run."""
    steps = [r.step for r in records if isinstance(r, ProfileRecord)]
    steps += [s for r in records if isinstance(r, BenchmarkRecord) for s in r.steps]
    medians = [
        1e3 * s.per_image
        for s in steps
        if s != step
        and (Variant.of(s), s.device, s.threads) == (Variant.of(step), step.device, step.threads)
    ]
    return between(min(medians), max(medians)) if medians else ""


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
