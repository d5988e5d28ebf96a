"""The plot of a run: sagas a second of every system, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.model import CONCURRENCIES, Case, SystemName, Window
from benchmarks.report import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    SystemName.LIBRARY: "#1f77b4",
    SystemName.TRACED: "#7fb2dd",
    SystemName.DBOS: "#d98032",
    SystemName.CEILING: "#9a9a9a",
}
_TITLES = {Case.COMPLETED: "Five steps", Case.COMPENSATED: "Fifth rejected, four undone"}


def draw(windows: Sequence[Window], path: Path) -> None:
    """Writes a grouped bar chart, one panel a case, to `path`; its suffix says the format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    cases = [case for case in Case if any(window.case is case for window in windows)]
    figure, axes = plt.subplots(1, len(cases), figsize=(5.5 * len(cases), 4), sharey=True, squeeze=False)
    for axis, case in zip(axes[0], cases, strict=True):
        _bars(axis, [window for window in windows if window.case is case])
        axis.set_title(f"{_TITLES[case]}, sagas a second")
    axes[0][0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.text(0.995, 0.01, "SQLite, synchronous=FULL, one machine, one run", ha="right", size=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _bars(axis: Axes, windows: Sequence[Window]) -> None:
    """Draws one panel: a group of bars for each concurrency, a bar for each system in it."""
    systems = [name for name in SystemName if any(window.system is name for window in windows)]
    width = 0.8 / len(systems)
    for place, system in enumerate(systems):
        offset = (place - (len(systems) - 1) / 2) * width
        heights = [_median(windows, system, clients) for clients in CONCURRENCIES]
        bars = axis.bar(
            [group + offset for group in range(len(CONCURRENCIES))],
            heights,
            width,
            label=LABELS[system],
            color=_COLOURS[system],
        )
        axis.bar_label(bars, [f"{height:,.0f}" for height in heights], fontsize=6, padding=1)
    axis.set_yscale("log")
    axis.margins(y=0.25)
    axis.set_xticks(range(len(CONCURRENCIES)), [f"{clients} at once" for clients in CONCURRENCIES])
    axis.spines[["top", "right"]].set_visible(False)


def _median(windows: Sequence[Window], system: SystemName, clients: int) -> float:
    found = [w.per_second for w in windows if w.system is system and w.concurrency == clients]
    return median(found) if found else 0.0
