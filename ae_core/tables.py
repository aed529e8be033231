"""Every table of the book and the command line, as data frames made from records."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ae_core.architecture import Architecture
from ae_core.phases import title
from ae_core.records import BenchmarkRecord, Difference, ProfileRecord, StepTime, TrainingRecord

IMAGES_PER_EPOCH = 50_000


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
            "parameters": f"{layer.parameter_count:,}" if layer.parameter_count else "",
            "MFLOP per image": f"{forward[layer.name] / 1e6:.1f}" if layer.name in forward else "",
        }
        for layer in architecture.layers
    ]
    total = {
        "layer": "all",
        "output (C x H x W)": "",
        "parameters": f"{architecture.parameter_count:,}",
        "MFLOP per image": f"{sum(forward.values()) / 1e6:.1f}",
    }
    return pd.DataFrame([*rows, total])


def differences(found: Iterable[Difference]) -> pd.DataFrame:
    """One row a quantity: differences from the reference, and whether they pass."""
    return pd.DataFrame(
        {
            "quantity": d.quantity,
            "max abs": f"{d.max_absolute:.1e}",
            "mean abs": f"{d.mean_absolute:.1e}",
            "relative": f"{d.relative:.1e}",
            "tolerance": f"{d.tolerance:.0e}",
            "": "ok" if d.passed else "FAILED",
        }
        for d in found
    )


def benchmark(record: BenchmarkRecord) -> pd.DataFrame:
    """One row an implementation: milliseconds per image, and ratios within this run.

    Speed-ups refer to the plain loops; the last column to PyTorch on the same device with as many
    threads.
    """
    plain = next((step for step in record.steps if step.name == "cpu"), None)
    peers = {(step.device, step.threads): step for step in record.steps if step.peer}
    rows = []
    for step in record.steps:
        low, median, high = (1e3 * t / step.batch_size for t in (step.low, step.median, step.high))
        row = {
            "implementation": title(step.name),
            "threads": step.threads,
            "ms per image": f"{median:.1f}",
            "10-90 %": f"{low:.1f}-{high:.1f}",
            "n": step.n,
            f"s per {IMAGES_PER_EPOCH:,}, extrapolated": f"{seconds_per_epoch(step):,.0f}",
        }
        if plain:
            row["speed-up"] = f"{plain.median / step.median:.1f}x"
        if peers:
            peer = peers.get((step.device, step.threads))
            row["time / PyTorch's"] = f"{step.median / peer.median:.1f}" if peer else ""
        rows.append(row)
    return pd.DataFrame(rows)


def seconds_per_epoch(step: StepTime) -> float:
    """Seconds for 50,000 images, extrapolated from the median step."""
    return IMAGES_PER_EPOCH * step.median / step.batch_size


def operations(record: ProfileRecord) -> pd.DataFrame:
    """One row an operation, summed over layers: time, share of the step, and GFLOP/s."""
    frame = pd.DataFrame([operation.model_dump() for operation in record.operations])
    grouped = frame.groupby("operation", sort=False)[["median", "flops"]].sum()
    grouped = grouped.sort_values("median", ascending=False)
    return pd.DataFrame(
        {
            "operation": grouped.index,
            "ms": (1e3 * grouped["median"]).map("{:.2f}".format).to_numpy(),
            "share": (grouped["median"] / grouped["median"].sum()).map("{:.1%}".format).to_numpy(),
            "GFLOP/s": [
                f"{flops / seconds / 1e9:.1f}" if flops else ""
                for flops, seconds in zip(grouped["flops"], grouped["median"], strict=True)
            ],
        }
    )


def epochs(record: TrainingRecord) -> pd.DataFrame:
    """One row an epoch: loss and seconds."""
    return pd.DataFrame(
        {
            "epoch": e.epoch,
            "loss": f"{e.loss:.5f}",
            "seconds": f"{e.seconds:.1f}",
            "images": f"{e.images:,}",
        }
        for e in record.epochs
    )
