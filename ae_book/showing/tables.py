"""Tables of the chapters, as data frames made from records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ae_core.architecture import KERNEL_SIZE, Architecture
from ae_core.measuring.tables import (
    benchmark,
    classification,
    differences,
    named,
    operation_times,
    operations,
    profile,
)
from ae_core.numbers import count, digits, percent
from ae_core.records import (
    ClassifierSettings,
    FormatTime,
    KernelsRecord,
    OperationTime,
    ProfileRecord,
    TrainingRecord,
)

__all__ = [
    "benchmark",
    "classification",
    "compared",
    "convolution",
    "differences",
    "epochs",
    "formats",
    "im2col",
    "kernels",
    "launches",
    "markdown",
    "network",
    "operations",
    "profile",
    "searched",
    "varying",
]
"""With the tables that commands print as well."""


def markdown(frame: pd.DataFrame) -> list[str]:
    """A frame as lines of a Markdown table: the first column to the left, the others right."""
    alignment = ["---", *["--:"] * (len(frame.columns) - 1)]
    rows = [frame.columns, alignment, *frame.to_numpy()]
    return ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def network(architecture: Architecture) -> pd.DataFrame:
    """One row a layer: shapes, parameters, and the forward pass's arithmetic."""
    forward = {
        cost.layer: cost.flops
        for cost in architecture.costs()
        if cost.operation == "conv2d_forward"
    }
    rows = [
        {
            "layer": layer.name,
            "output (C x H x W)": " x ".join(map(str, layer.output)),
            "parameters": count(layer.parameter_count) if layer.parameter_count else "",
            "MFLOP per image": f"{forward[layer.name] / 1e6:.1f}" if layer.name in forward else "",
        }
        for layer in architecture.layers
    ]
    total = {
        "layer": "all",
        "output (C x H x W)": "",
        "parameters": count(architecture.parameter_count),
        "MFLOP per image": f"{sum(forward.values()) / 1e6:.1f}",
    }
    return pd.DataFrame([*rows, total])


def launches(records: Iterable[ProfileRecord]) -> pd.DataFrame:
    """One row an operation, a column a phase: kernels launched in a step; the last row adds up.

    An entry that does several operations has a row of its own.
    """
    counts: dict[str, Counter[str]] = {}
    for record in records:
        launched: Counter[str] = Counter()
        counts[named(record.step)] = launched
        for operation in record.operations:
            launched[operation.label] += operation.launches
    frame = pd.DataFrame(counts).fillna(0).astype(int)
    frame.loc["all"] = frame.sum()
    columns = {name: [count(n) if n else "" for n in frame[name]] for name in frame}
    return pd.DataFrame({"operation": frame.index, **columns})


def im2col(architecture: Architecture, batch: int = 1) -> pd.DataFrame:
    """One row a convolution: what its input takes, and what im2col would write for it, in MB."""
    rows = []
    for layer in architecture.layers:
        if layer.kind == "conv":
            channels, height, width = layer.input
            plane = 4 * batch * channels * height * width / 1e6
            rows.append({"layer": layer.name, "input": plane, "im2col": KERNEL_SIZE**2 * plane})
    frame = pd.DataFrame(rows)
    total = {"layer": "all", "input": frame["input"].sum(), "im2col": frame["im2col"].sum()}
    frame = pd.concat([frame, pd.DataFrame([total])])
    return frame.assign(**{k: frame[k].map("{:.2f} MB".format) for k in ("input", "im2col")})


def kernels(record: KernelsRecord) -> pd.DataFrame:
    """One row a launch that Nsight Compute looked at."""
    return pd.DataFrame(
        {
            "kernel": k.kernel,
            "grid": k.grid,
            "us": digits(1e6 * k.seconds),
            "occupancy": percent(k.occupancy, 0),
            "arithmetic": percent(k.arithmetic, 0),
            "memory": percent(k.memory_traffic, 0),
            "registers": k.registers,
        }
        for k in record.kernels
    )


def compared(before: ProfileRecord, after: ProfileRecord, by_layer: bool = False) -> pd.DataFrame:
    """One row an operation (or a convolution of a layer): microseconds before and after, and ratio.

    Times are per image. A convolution's is that of the entry that does it, with whatever else that
    does; entries that do several have rows of their own. The step's row has the whole steps, with
    gaps.
    """
    old, new = (1e6 * _per_image(record, by_layer) for record in (before, after))
    rows = [*dict.fromkeys([*old.index.drop("step"), *new.index])]
    old, new = old.reindex(rows), new.reindex(rows)
    return pd.DataFrame(
        {
            "operation": rows,
            f"{named(before.step)}, us": [_digits(t) for t in old],
            f"{named(after.step)}, us": [_digits(t) for t in new],
            "ratio": [_digits(ratio) for ratio in old / new],
        }
    )


def convolution(operation: OperationTime) -> str:
    """The convolution of a layer that an entry of a step does: `conv2.conv2d_forward`.

    The entry's own name if that are several, or none.
    """
    found = [each for each in operation.operations if each.split(".")[1].startswith("conv2d")]
    return found[0] if len(found) == 1 else operation.name


def _per_image(record: ProfileRecord, by_layer: bool) -> pd.Series:
    """Median seconds by operation, or by convolution of a layer; last, of the step."""
    frame = operation_times(record)
    if by_layer:
        frame["operation"] = [convolution(operation) for operation in record.operations]
        frame = frame[frame["kind"] == "convolution"]
    times = frame.groupby("operation", sort=False)["median"].sum()
    times["step"] = record.step.median
    return times / record.step.batch_size


def _digits(value: float) -> str:
    """Nothing for what is not there, or was too short to be timed."""
    return digits(value) if np.isfinite(value) else ""


def epochs(record: TrainingRecord, with_seconds: bool = True) -> pd.DataFrame:
    """One row an epoch: loss, images, and seconds where they mean something."""
    frame = pd.DataFrame(
        {
            "epoch": e.epoch,
            "loss": f"{e.loss:.5f}",
            "images": count(e.images),
            "seconds": f"{e.seconds:.1f}",
        }
        for e in record.epochs
    )
    return frame if with_seconds else frame.drop(columns="seconds")


def varying(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns in which rows differ, and the accuracy: what is all alike, the text can say."""
    return frame[[c for c in frame if c == "test accuracy" or frame[c].nunique() > 1]]


def formats(found: Iterable[FormatTime]) -> pd.DataFrame:
    """One row a file format: what a thousand images' features cost."""
    return pd.DataFrame(
        {
            "format": f.suffix.removeprefix("."),
            "images": count(f.images),
            "MB": f"{f.bytes / 1e6:.1f}",
            "bytes per number": f"{f.bytes / (f.images * f.features):.2f}",
            "write, s": digits(f.write_seconds),
            "read, s": digits(f.read_seconds),
        }
        for f in found
    )


def searched(tried: Iterable[tuple[ClassifierSettings, float]]) -> pd.DataFrame:
    """One row a C, one column a gamma: accuracy on what was held out."""
    frame = pd.DataFrame(
        {"C": s.C, "gamma": s.gamma, "share": percent(share, 1)} for s, share in tried
    )
    wide = frame.pivot(index="C", columns="gamma", values="share")
    wide.columns = pd.Index([f"gamma = {gamma:g} of scale" for gamma in wide.columns])
    return wide.rename(index="{:g}".format).reset_index()
