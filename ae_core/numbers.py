"""Numbers as a person reads them: how many digits, and which unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def digits(value: float | None) -> str:
    """Three significant digits, or all digits of a larger whole part; no exponent.

    Empty for None. Raises ValueError for a value that is not finite.
    """
    if value is None:
        return ""
    if value == 0:
        return "0"
    leading = math.floor(
        math.log10(abs(float(f"{value:.2e}")))
    )  # of the rounded value: 9.996 is 10
    return f"{value:,.{max(0, 2 - leading)}f}"


def between(low: float, high: float) -> str:
    """A range, three significant digits each; one number where both ends read alike."""
    return " to ".join(dict.fromkeys((digits(low), digits(high))))


def count(number: int) -> str:
    """A whole number with its thousands set off."""
    return f"{number:,}"


def grouped(printed: str) -> str:
    """A number that somebody printed, its thousands set off, its digits as they are."""
    whole, point, rest = printed.replace(",", "").partition(".")
    return printed if "e" in printed else f"{int(whole):,}{point}{rest}"


def with_unit(value: float | str | None, unit: str) -> str:
    """A number and its unit: `4.60 s`, `2.47x`. A whole number and a text keep all digits.

    Empty for None.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        value = count(value) if isinstance(value, int) else digits(value)
    return f"{value}x" if unit == "x" else f"{value} {unit}".strip()


def times(ratio: float | None) -> str:
    """A ratio, three significant digits: `2.47x`. Empty for None."""
    return with_unit(ratio, "x")


def percent(share: float | None, places: int | None = None) -> str:
    """A share of 1 in percent: `12.5 %`; three significant digits, or so many decimal places.

    Empty for None.
    """
    if share is None:
        return ""
    return with_unit(digits(100 * share) if places is None else f"{100 * share:.{places}f}", "%")


def mean_percent(shares: Sequence[float]) -> str:
    """Shares of 1 in percent: mean, standard deviation and how many; one share alone as it is."""
    if len(shares) == 1:
        return percent(shares[0], 2)
    return f"{100 * fmean(shares):.2f} ± {percent(stdev(shares), 2)} (n = {len(shares)})"


def small(value: float, places: int = 1) -> str:
    """An error or a tolerance, as a power of ten: `1.2e-05`."""
    return f"{value:.{places}e}"
