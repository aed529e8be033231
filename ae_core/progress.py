"""A progress bar where someone watches, and silence elsewhere."""

from __future__ import annotations

import os
import sys
from typing import Any

from tqdm.auto import tqdm

from ae_core import terminal


def bar(total: int, title: str, unit: str = "image") -> Any:
    """A bar over `total` units: shown in terminals and live notebooks, silent in pipes and CI."""
    live_notebook = "ipykernel" in sys.modules and not os.environ.get("TQDM_DISABLE")
    watched = live_notebook or terminal.watched()
    return tqdm(total=total, desc=title, unit=unit, disable=not watched, leave=False)
