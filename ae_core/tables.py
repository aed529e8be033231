"""Every table of the book and the command line, as data frames made from records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ae_core.architecture import KERNEL, Architecture
from ae_core.phases import title
from ae_core.records import (
    IMAGES_PER_EPOCH,
    BenchmarkRecord,
    ClassificationRecord,
    ClassificationResult,
    ClassifierSettings,
    Difference,
    FormatTime,
    KernelsRecord,
    ProfileRecord,
    StepTime,
    TrainingRecord,
)

CLASSIFIERS = {
    "svc": "RBF SVC",
    "library-svc": "RBF SVC, the library's",
    "least-squares": "RBF least squares",
}
"""As the book names them."""


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

    Speed-ups refer to the plain loops; the last column to PyTorch at its best in float32 on the
    same device with as many threads. Seconds for 50,000 images are measured, or marked as
    extrapolated.
    """
    plain = next((step for step in record.steps if step.name == "cpu"), None)
    exact = (step for step in record.steps if step.peer and step.precision == "float32")
    slowest_first = sorted(exact, key=lambda step: step.median, reverse=True)
    peers = {(step.device, step.threads): step for step in slowest_first}
    rows = []
    for step in record.steps:
        low, median, high = (1e3 * t / step.batch_size for t in (step.low, step.median, step.high))
        row = {
            "implementation": title(step.name),
            "on": place(record, step),
            "ms per image": digits(median),
            "10-90 %": f"{digits(low)}-{digits(high)}",
            "n": f"{step.n:,}",
            f"s per {IMAGES_PER_EPOCH:,}": f"{digits(step.seconds_per_epoch)}"
            + (" extrapolated" if step.extrapolated else ""),
        }
        if plain:
            row["speed-up"] = f"{digits(plain.median / step.median)}x"
        if peers:
            peer = peers.get((step.device, step.threads))
            row["time / PyTorch's"] = digits(step.median / peer.median) if peer else ""
        rows.append(row)
    return pd.DataFrame(rows)


def place(record: BenchmarkRecord, step: StepTime) -> str:
    """Where a row was measured: the GPU, or so many threads."""
    gpu = record.provenance.gpu
    if gpu and step.device == gpu.model:
        return "GPU"
    return "1 thread" if step.threads == 1 else f"{step.threads} threads"


def digits(value: float) -> str:
    """Three significant digits, none of them lost to an exponent."""
    return f"{value:,.{max(0, 2 - int(np.floor(np.log10(value))))}f}" if value else "0"


def launches(records: Iterable[ProfileRecord]) -> pd.DataFrame:
    """One row an operation, a column a phase: kernels launched in a step; the last row adds up."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        count: Counter[str] = Counter()
        counts[title(record.phase)] = count
        for operation in record.operations:
            count[operation.operation] += operation.launches
    frame = pd.DataFrame(counts)
    frame.loc["all"] = frame.sum()
    columns = {name: frame[name].map("{:,}".format) for name in frame}
    return pd.DataFrame({"operation": frame.index, **columns})


def im2col(architecture: Architecture, batch: int = 1) -> pd.DataFrame:
    """One row a convolution: what its input takes, and what im2col would write for it, in MB."""
    rows = []
    for layer in architecture.layers:
        if layer.kind == "conv":
            channels, height, width = layer.input
            plane = 4 * batch * channels * height * width / 1e6
            rows.append({"layer": layer.name, "input": plane, "im2col": KERNEL**2 * plane})
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
            "occupancy": f"{k.occupancy:.0%}",
            "arithmetic": f"{k.arithmetic:.0%}",
            "memory": f"{k.memory_traffic:.0%}",
            "registers": k.registers,
        }
        for k in record.kernels
    )


def compared(before: ProfileRecord, after: ProfileRecord, by_layer: bool = False) -> pd.DataFrame:
    """One row an operation (or a convolution of a layer): microseconds before and after, and ratio.

    The step's row has the whole steps, with gaps.
    """
    frames = []
    for record in (before, after):
        frame = _operations(record)
        if by_layer:
            frame = frame[frame["operation"].str.startswith("conv2d")]
            frame = frame.assign(operation=frame["layer"] + "." + frame["operation"])
        times = frame.groupby("operation", sort=False)["median"].sum()
        times["step"] = record.step.median
        frames.append(1e6 * times)
    old, new = frames
    return pd.DataFrame(
        {
            "operation": old.index,
            f"{title(before.phase)}, us": [digits(t) for t in old],
            f"{title(after.phase)}, us": [digits(t) for t in new],
            "ratio": [digits(ratio) for ratio in old / new],
        }
    )


def operations(record: ProfileRecord) -> pd.DataFrame:
    """One row an operation, summed over layers: time, share, launches, rate, and of the roofline.

    A last row has the gaps between operations.
    """
    frame = _operations(record).drop(columns="layer").groupby("operation", sort=False).sum()
    return _timed(record, frame.sort_values("median", ascending=False).reset_index())


def profile(record: ProfileRecord) -> pd.DataFrame:
    """One row an operation of a layer, in the order of the step; a last row has the gaps."""
    frame = _operations(record)
    frame["operation"] = frame["layer"] + "." + frame["operation"]
    return _timed(record, frame)


def _operations(record: ProfileRecord) -> pd.DataFrame:
    frame = pd.DataFrame([operation.model_dump() for operation in record.operations])
    if record.ceilings:
        frame["least"] = [record.ceilings.seconds(o.flops, o.bytes) for o in record.operations]
    return frame


def _timed(record: ProfileRecord, frame: pd.DataFrame) -> pd.DataFrame:
    """Columns `operation`, `median`, `flops`, `launches`, `least` as a person reads them."""
    step = max(record.step.median, record.seconds)
    milliseconds = "ms, launches included" if record.includes_launches else "ms"
    columns = {
        "operation": frame["operation"],
        milliseconds: (1e3 * frame["median"]).map("{:.3f}".format),
        "of step": (frame["median"] / step).map("{:.1%}".format),
        "launches": frame["launches"].map("{:,}".format),
        "GFLOP/s": [
            f"{rate / 1e9:,.1f}" if rate else "" for rate in frame["flops"] / frame["median"]
        ],
    }
    if record.ceilings and not record.includes_launches:
        columns["of roofline"] = (frame["least"] / frame["median"]).map("{:.1%}".format)
    if not frame["launches"].any():
        del columns["launches"]
    if record.includes_launches:
        return pd.DataFrame(columns)
    gaps = {"operation": "gaps", "ms": f"{1e3 * record.gaps:.3f}"}
    gaps["of step"] = f"{record.gaps / step:.1%}"
    return pd.concat([pd.DataFrame(columns), pd.DataFrame([gaps])]).fillna("")


def epochs(record: TrainingRecord, with_seconds: bool = True) -> pd.DataFrame:
    """One row an epoch: loss, images, and seconds where they mean something."""
    frame = pd.DataFrame(
        {
            "epoch": e.epoch,
            "loss": f"{e.loss:.5f}",
            "images": f"{e.images:,}",
            "seconds": f"{e.seconds:.1f}",
        }
        for e in record.epochs
    )
    return frame if with_seconds else frame.drop(columns="seconds")


def classification(record: ClassificationRecord) -> pd.DataFrame:
    """One row a classifier and kind of features; over several seeds, mean and deviation."""
    groups: dict[tuple[str, str, int], list[ClassificationResult]] = {}
    for result in record.results:
        key = (result.features, result.settings.classifier, result.train_images)
        groups.setdefault(key, []).append(result)
    rows = []
    for (features, classifier, images), results in groups.items():
        first = results[0]
        rows.append(
            {
                "features": features,
                "classifier": CLASSIFIERS[classifier],
                "C": f"{first.settings.C:g}",
                "gamma / scale": f"{first.settings.gamma:g}",
                "images": f"{images:,}",
                "numbers an image": f"{first.dimensions:,}",
                "test accuracy": percent(r.test_accuracy for r in results),
                "on training images": percent(r.train_accuracy for r in results),
                "fit, s": digits(float(np.mean([r.fit_seconds for r in results]))),
                "predict, s": digits(float(np.mean([r.predict_seconds for r in results]))),
            }
        )
    return pd.DataFrame(rows)


def varying(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns in which rows differ, and the accuracy: what is all alike, the text can say."""
    return frame[[c for c in frame if c == "test accuracy" or frame[c].nunique() > 1]]


def percent(shares: Iterable[float]) -> str:
    """A share in percent; of several, mean and standard deviation, and how many."""
    values = 100 * np.array(list(shares))
    if len(values) == 1:
        return f"{values[0]:.2f} %"
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f} % (n = {len(values)})"


def formats(found: Iterable[FormatTime]) -> pd.DataFrame:
    """One row a file format: what a thousand images' features cost."""
    return pd.DataFrame(
        {
            "format": f.suffix.removeprefix("."),
            "images": f"{f.images:,}",
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
        {"C": s.C, "gamma": s.gamma, "share": f"{100 * share:.1f} %"} for s, share in tried
    )
    wide = frame.pivot(index="C", columns="gamma", values="share")
    wide.columns = pd.Index([f"gamma = {gamma:g} of scale" for gamma in wide.columns])
    return wide.rename(index="{:g}".format).reset_index()
