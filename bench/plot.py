"""The picture of the races: how near each comes to the bound."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figure import DATABASES, Contestant

_COLOURS = {"relay": "#1f6feb", "bound": "#57606a", "bound, tuned": "#57606a"}
_PEER = "#b0b8c1"


def draw(contestants: Sequence[Contestant], waiting: int, path: Path) -> None:
    """Two panels of bars, the longest on top, of all who drained ``waiting`` messages and have a ratio."""
    # Unset, names inside the file are random: each run would change it all.
    mpl.rcParams["svg.hashsalt"] = "benchmarks"
    ran = [one for one in contestants if one.waiting == waiting and one.to_bound is not None]
    figure = Figure(figsize=(10, 3.6), layout="constrained", facecolor="white")
    for axes, (backend, title) in zip(figure.subplots(1, 2), DATABASES.items(), strict=True):
        _panel(axes, title, [one for one in ran if one.backend == backend])
    figure.suptitle(
        f"Draining {waiting:,} messages: rate as a share of the bound's, the shortest loop by hand", fontsize=11
    )
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _panel(axes: Axes, title: str, contestants: list[Contestant]) -> None:
    shortest_first = sorted(contestants, key=lambda one: one.to_bound or 0)
    names = [one.name for one in shortest_first]
    ratios = [one.to_bound or 0 for one in shortest_first]
    bars = axes.barh(names, ratios, color=[_COLOURS.get(name, _PEER) for name in names])
    axes.axvline(1.0, color="black", linewidth=1, linestyle="--", zorder=0)
    labels = axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=9)
    for label in labels:
        # Over the line where it ends beside it.
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.set_xlim(0, max([1.0, *ratios]) * 1.15)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("ratio to the bound", fontsize=9)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
