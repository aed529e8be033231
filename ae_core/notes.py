"""What chapters show besides figures: numbers for the prose, sources, data and provenance."""

from __future__ import annotations

import html
import inspect
import textwrap
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown, display

from ae_core.cifar10 import Dataset
from ae_core.records import Provenance


def numbers(**values: object) -> None:
    """Make measured values available to the prose as ``{glue:text}`NAME:FORMAT` ``."""
    from myst_nb import glue  # noqa: PLC0415

    for name, value in values.items():
        glue(name, value, display=False)


def source(function: Any) -> None:
    """Show a function's source as the package has it; compiled functions show what they compile."""
    function = inspect.unwrap(getattr(function, "py_func", function))
    code = textwrap.dedent(inspect.getsource(function)).strip()
    display(Markdown(f"```python\n{code}\n```"))


def table(frame: pd.DataFrame) -> None:
    """Show a data frame: text to the left, numbers to the right, no index."""
    text = [c for c in frame if not frame[c].astype(str).str.match(r"^[\d.,\-]*[%x]?$").all()]
    styler = frame.style.hide(axis="index").set_table_attributes('class="table"')
    styler = styler.set_uuid("table").set_properties(**{"text-align": "right"})
    styler = styler.set_properties(subset=text, **{"text-align": "left"})
    headers = [
        {"selector": f"th.col{i}", "props": f"text-align: {'left' if c in text else 'right'}"}
        for i, c in enumerate(frame)
    ]
    display(HTML(styler.set_table_styles(headers).to_html()))


def data(dataset: Dataset) -> None:
    """Say which data this chapter ran on; plainly so when it is not CIFAR-10."""
    identity = dataset.identity
    if identity.kind == "synthetic":
        _admonition(
            "warning",
            "Synthetic data",
            "This chapter ran on a synthetic stand-in: ten classes of drawn shapes in CIFAR-10's "
            "file layout. Its errors and pictures are not CIFAR-10's. Set AE_CIFAR10_DIR and run "
            "it again for the real images.",
        )
    else:
        _admonition("note", "Data", f"This chapter ran on {identity.label}.")


def provenance(facts: Provenance) -> None:
    """Where this chapter's numbers come from, folded."""
    machine = f"{facts.cpu}, {facts.cores} cores, {facts.memory_bytes / 2**30:.0f} GiB"
    commit = facts.commit[:12] if facts.commit else "not from a checkout"
    rows = {
        "measured": f"{facts.created:%Y-%m-%d %H:%M} UTC",
        "machine": machine,
        "GPU": f"{facts.gpu.model}, driver {facts.gpu.driver}" if facts.gpu else "none",
        "system": f"{facts.system}, Python {facts.python}",
        "packages": ", ".join(f"{name} {number}" for name, number in facts.versions.items()),
        "commit": commit + (", with local changes" if facts.modified else ""),
        "again": facts.command,
    }
    lines = "".join(
        f"<tr><th scope='row'>{name}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    display(
        HTML(
            "<details class='provenance'><summary>Where these numbers come from</summary>"
            f"<table class='table'>{lines}</table></details>"
        )
    )


def _admonition(kind: str, title: str, text: str) -> None:
    display(
        HTML(
            f"<div class='admonition {kind}'><p class='admonition-title'>{title}</p>"
            f"<p>{html.escape(text)}</p></div>"
        )
    )
