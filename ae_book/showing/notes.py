"""What chapters show besides figures: numbers for the prose, sources, data and provenance."""

from __future__ import annotations

import html
import inspect
import math
import os
import textwrap
import time
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display

from ae_core.autoencoder import default_architecture
from ae_core.data.cifar10 import Dataset, Identity
from ae_core.devices.kernel_device import KernelDevice
from ae_core.devices.kernels import listing
from ae_core.numbers import count
from ae_core.records import BenchmarkRecord, TrainingRecord, VerificationRecord
from ae_core.records.provenance import BOOK_VARIABLE, Provenance

_STARTED = time.monotonic()
"""Near enough when the chapter began: its first cell of code imports this."""


def numbers(**values: float) -> None:
    """Make measured values available to the prose as ``{glue:text}`NAME:FORMAT` ``.

    Where no book is being made (JupyterLab, plain papermill) the prose can't show them, so that
    they are printed as well.
    """
    from myst_nb import glue  # noqa: PLC0415

    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
    for name, value in plain.items():
        glue(name, value, display=False)
    if BOOK_VARIABLE not in os.environ:
        print(", ".join(f"{name} = {value:.4g}" for name, value in plain.items()))


def verified(record: VerificationRecord) -> None:
    """Numbers of a comparison with the CPU: `checked_images`, `worst`, `worst_absolute`."""
    numbers(
        checked_images=record.images,
        worst=record.worst.relative,
        worst_absolute=record.worst.max_absolute,
    )


def trained(record: TrainingRecord) -> None:
    """Numbers of a training run: `trained`, `epochs_run`, `first`, `last`, `test_mse`, `memory`."""
    numbers(
        trained=record.settings.images,
        epochs_run=len(record.epochs),
        first=record.epochs[0].loss,
        last=record.epochs[-1].loss,
        test_mse=record.test.mse if record.test else math.nan,
        test_psnr=record.test.psnr if record.test else math.nan,
        memory=(record.memory.device or 0) / 2**20,
    )


def source(function: Any) -> None:
    """Show a function's source as the package has it; compiled functions show what they compile."""
    function = inspect.unwrap(getattr(function, "py_func", function))
    code = textwrap.dedent(inspect.getsource(function)).strip()
    display(Markdown(f"```python\n{code}\n```"))


def kernel(file: str, name: str) -> None:
    """Show one function of `kernels/file`, with the comment above it, as it is compiled."""
    display(Markdown(f"```cuda\n{listing(file, name)}\n```"))


def say(text: str) -> None:
    """Show Markdown: for sentences that depend on what a chapter ran on."""
    display(Markdown(text))


def table(frame: pd.DataFrame, wide: bool = False) -> None:
    """Show a data frame: columns of numbers to the right, others to the left, no index.

    A wide one has a line to a row, and keeps its first column in sight when scrolled sideways.
    """
    numeric = [
        frame[c].astype(str).str.fullmatch(r"[\d.,e+\-]*\d(?: %|x)?|nan|").all() for c in frame
    ]
    classes = ["number" if right else "text" for right in numeric]
    lines = []
    for tag, row in [("th", [*frame]), *(("td", [*row]) for row in frame.to_numpy())]:
        cells = zip(classes, row, strict=True)
        lines.append(
            "".join(f"<{tag} class='{c}'>{html.escape(str(value))}</{tag}>" for c, value in cells)
        )
    head, *body = (f"<tr>{line}</tr>" for line in lines)
    display(
        HTML(
            f"<table class='table measured{' wide' * wide}'><thead>{head}</thead>"
            f"<tbody>{''.join(body)}</tbody></table>"
        )
    )


def data(dataset: Dataset) -> None:
    """Say which data this chapter ran on; plainly so when it is not CIFAR-10."""
    identity = dataset.identity
    if identity.kind == "synthetic":
        admonition(
            "warning",
            "Synthetic data",
            "This chapter ran on a synthetic stand-in: ten classes of drawn shapes in CIFAR-10's "
            "file layout. Its errors and pictures are not CIFAR-10's. Set AE_CIFAR10_DIR and run "
            "it again for the real images.",
        )
    else:
        admonition("note", "Data", f"This chapter ran on {identity.label}.")


def device(used: KernelDevice) -> None:
    """Say what a chapter on a CUDA phase runs on, and what its numbers are worth there."""
    if used.kind == "gpu":
        admonition("note", "Device", f"This chapter ran on {used.name}.")
        return
    network = default_architecture(used)
    admonition(
        "warning",
        "No GPU",
        f"This chapter ran without a GPU, on the {used.name}. The kernels are the same, thread by "
        f"thread; the network is a small one ({count(network.parameter_count)} parameters, images "
        f"of {network.height} x {network.width}). Results and counts are real. Times would be the "
        f"emulator's, and are left out.",
    )


def load(record: BenchmarkRecord) -> None:
    """Warn beside its times if other work kept the machine busy."""
    if record.load and record.load.busy:
        admonition("warning", "A busy machine", str(record.load))


def provenance(facts: Provenance, dataset: Identity, seed: int | None = None) -> None:
    """Where this chapter's numbers come from, folded.

    Args:
        facts: of a run that it measured.
        dataset: what it ran on.
        seed: of initial weights and image order; None where a chapter tells of others' runs, whose
            duration is not its own either.
    """
    own = {}
    if seed is not None:
        own["seed"] = str(seed)
        own["duration"] = f"{time.monotonic() - _STARTED:.0f} s for the chapter, up to here"
    display(HTML(provenance_html("Where these numbers come from", facts, dataset, own)))


def provenance_html(summary: str, facts: Provenance, dataset: Identity, own: dict[str, str]) -> str:
    """A fold under `summary`: when, on what and from what something was made, with `own` rows."""
    machine = f"{facts.cpu}, {facts.cores} cores, {facts.memory_bytes / 2**30:.0f} GiB"
    commit = facts.commit[:12] if facts.commit else "not from a checkout"
    rows = {
        "when": f"{facts.created:%Y-%m-%d %H:%M} UTC",
        "machine": machine,
        "GPU": f"{facts.gpu.model}, driver {facts.gpu.driver}" if facts.gpu else "none",
        "system": f"{facts.system}, Python {facts.python}",
        "packages": ", ".join(f"{name} {number}" for name, number in facts.versions.items()),
        "data": f"{dataset.label}, SHA-256 {dataset.digest[:16]}...",
        **own,
        "commit": commit + (", with local changes" if facts.modified else ""),
        "again": facts.command,
    }
    lines = "".join(
        f"<tr><th scope='row'>{name}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    return (
        f"<details class='provenance'><summary>{summary}</summary>"
        f"<table class='table'>{lines}</table></details>"
    )


def admonition(kind: str, title: str, text: str) -> None:
    """A box: `note` or `warning`."""
    display(
        HTML(
            f"<div class='admonition {kind}'><p class='admonition-title'>{title}</p>"
            f"<p>{html.escape(text)}</p></div>"
        )
    )
