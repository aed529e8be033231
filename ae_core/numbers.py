"""Numbers as a person reads them: how many digits, and which unit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def digits(value: float) -> str:
    """Three significant digits, none of them lost to an exponent."""
    return f"{value:,.{max(0, 2 - int(np.floor(np.log10(value))))}f}" if value else "0"


def percent(shares: Iterable[float]) -> str:
    """A share in percent; of several, mean and standard deviation, and how many."""
    values = 100 * np.array(list(shares))
    if len(values) == 1:
        return f"{values[0]:.2f} %"
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f} % (n = {len(values)})"
