"""What was measured as tables: data frames made from records, which commands and the book show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from ae_core.devices.kernels import KernelSource
from ae_core.devices.nvrtc import Usage
from ae_core.numbers import between, count, digits, mean_percent, percent, small, times
from ae_core.phases import title
from ae_core.records import (
    IMAGES_PER_EPOCH,
    BenchmarkRecord,
    ClassificationRecord,
    ClassificationResult,
    Difference,
    ProfileRecord,
    StepTime,
)

CLASSIFIERS = {
    "svc": "RBF SVC",
    "library-svc": "RBF SVC, the library's",
    "least-squares": "RBF least squares",
}
"""As the book names them."""


def differences(found: Iterable[Difference]) -> pd.DataFrame:
    """One row a quantity: differences from the reference, and whether they pass."""
    return pd.DataFrame(
        {
            "quantity": d.quantity,
            "max abs": small(d.max_absolute),
            "mean abs": small(d.mean_absolute),
            "relative": small(d.relative),
            "tolerance": small(d.tolerance, 0),
            "": "ok" if d.passed else "FAILED",
        }
        for d in found
    )


def benchmark(record: BenchmarkRecord) -> pd.DataFrame:
    """One row an implementation: milliseconds per image, and ratios within this run.

    Ratios are of times per image. Speed-ups refer to the plain loops at their smallest batch; the
    last column to PyTorch at its best in float32 at the same batch size, on the same device with as
    many threads. Seconds for 50,000 images are measured, or marked as extrapolated.
    """
    loops = (step for step in record.steps if step.name == "cpu")
    plain = min(loops, key=lambda step: step.batch_size, default=None)
    exact = (step for step in record.steps if step.peer and step.precision == "float32")
    slowest_first = sorted(exact, key=lambda step: step.per_image, reverse=True)
    peers = {_conditions(step): step for step in slowest_first}
    rows = []
    for step in record.steps:
        low, median, high = (1e3 * t / step.batch_size for t in (step.low, step.median, step.high))
        row = {
            "implementation": named(step),
            "on": place(step.gpus, step.threads),
            "ms per image": digits(median),
            "10-90 %": between(low, high),
            "n": count(step.n),
            f"s per {count(IMAGES_PER_EPOCH)}": digits(step.seconds_per_epoch)
            + (" extrapolated" if step.extrapolated else ""),
        }
        if plain:
            row["speed-up"] = times(plain.per_image / step.per_image)
        if peers:
            peer = peers.get(_conditions(step))
            row["time / PyTorch's"] = digits(step.per_image / peer.per_image) if peer else ""
        rows.append(row)
    return pd.DataFrame(rows)


def usage(compiled: Mapping[KernelSource, Mapping[str, Usage]]) -> pd.DataFrame:
    """One row a kernel: what it uses of a card, as compiled; and the assembler's advice, if any."""
    frame = pd.DataFrame(
        {
            "kernel": kernel,
            "registers": used.registers,
            "shared bytes": count(used.shared_bytes),
            "spilled bytes": count(used.spilled_bytes),
            "advice": "; ".join(used.advice),
            "file": source.file,
        }
        for source, kernels in compiled.items()
        for kernel, used in kernels.items()
    )
    return frame if frame["advice"].any() else frame.drop(columns="advice")


def named(step: StepTime) -> str:
    """What was timed, as the book calls it."""
    return title(
        step.name,
        graph=step.graph,
        precision=step.precision,
        gpus=step.gpus,
        batch_size=step.batch_size,
    )


def place(gpus: int, threads: int) -> str:
    """What did the arithmetic: so many GPUs, or threads where there were none."""
    if gpus:
        return "GPU" if gpus == 1 else f"{gpus} GPUs"
    return "1 thread" if threads == 1 else f"{threads} threads"


def profile(record: ProfileRecord) -> pd.DataFrame:
    """One row an entry of the step, in its order; a last row has the gaps."""
    frame = operation_times(record)
    frame["operation"] = frame["name"]
    return _timed(record, frame)


def operations(record: ProfileRecord) -> pd.DataFrame:
    """One row an operation, summed over layers: time, share, launches, rate, and of the roofline.

    An entry that does several operations has a row of its own; a last row has the gaps.
    """
    frame = operation_times(record).groupby("operation", sort=False).sum(numeric_only=True)
    return _timed(record, frame.sort_values("median", ascending=False).reset_index())


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
                "images": count(images),
                "numbers an image": count(first.dimensions),
                "test accuracy": mean_percent([r.test_accuracy for r in results]),
                "on training images": mean_percent([r.train_accuracy for r in results]),
                "fit, s": digits(float(np.mean([r.fit_seconds for r in results]))),
                "predict, s": digits(float(np.mean([r.predict_seconds for r in results]))),
            }
        )
    return pd.DataFrame(rows)


def operation_times(record: ProfileRecord) -> pd.DataFrame:
    """One row an entry of the step, as the record has it, with its least time by the roofline."""
    frame = pd.DataFrame([operation.model_dump() for operation in record.operations])
    frame["operation"] = [operation.label for operation in record.operations]
    if record.ceilings:
        frame["least"] = [record.ceilings.seconds(o.flops, o.bytes) for o in record.operations]
    return frame


def _conditions(step: StepTime) -> tuple[str, int, int, int]:
    """What two steps must have in common for one to be a fair yardstick of the other."""
    return step.device, step.gpus, step.threads, step.batch_size


def _timed(record: ProfileRecord, frame: pd.DataFrame) -> pd.DataFrame:
    """Columns `operation`, `median`, `flops`, `launches`, `least` as a person reads them."""
    step = max(record.step.median, record.seconds)
    milliseconds = "ms, launches included" if record.includes_launches else "ms"
    columns = {
        "operation": frame["operation"],
        milliseconds: (1e3 * frame["median"]).map("{:.3f}".format),
        "of step": [percent(share, 1) for share in frame["median"] / step],
        "launches": frame["launches"].map(count),
        "GFLOP/s": [
            f"{flops / seconds / 1e9:,.1f}" if flops and seconds else ""
            for flops, seconds in zip(frame["flops"], frame["median"], strict=True)
        ],
    }
    if record.ceilings and not record.includes_launches:
        columns["of roofline"] = [
            percent(least / seconds, 1) if seconds else ""
            for least, seconds in zip(frame["least"], frame["median"], strict=True)
        ]
    if not frame["launches"].any():
        del columns["launches"]
    if record.includes_launches:
        return pd.DataFrame(columns)
    gaps = {"operation": "gaps", "ms": f"{1e3 * record.gaps:.3f}"}
    gaps["of step"] = percent(record.gaps / step, 1)
    return pd.concat([pd.DataFrame(columns), pd.DataFrame([gaps])]).fillna("")
