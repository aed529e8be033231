"""The plot of the chapter on claims."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from ae_book.report.agreement import AGREES, NEAR, Row
from ae_book.showing.figures import PALETTE, styled, subplots


@styled
def agreement(rows: Sequence[Row]) -> Figure:
    """This book's number over the report's, a dot a claim, on a logarithmic scale.

    Bands show where a number agrees and where it is near.
    """
    dots = [(row.claim, row.ratio) for row in rows if row.ratio]
    figure, axis = subplots(1, 1, (7.5, 0.9 + 0.26 * len(dots)))
    for factor, alpha in ((NEAR, 0.12), (AGREES, 0.25)):
        axis.axvspan(1 / factor, factor, color=PALETTE[2], alpha=alpha, linewidth=0)
    axis.plot([ratio for _, ratio in dots], range(len(dots)), "o", color=PALETTE[0])
    axis.set_yticks(range(len(dots)), [f"{c.says} ({c.where})" for c, _ in dots], fontsize=8)
    axis.set(xscale="log", xlabel="this book / the report", ylim=(len(dots) - 0.5, -0.5))
    return figure
