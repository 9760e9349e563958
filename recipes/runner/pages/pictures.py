"""The pictures of a report, as PNG files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from evonas.explorers.pareto import pareto_front
from evonas.files import written_whole
from evonas.units import format_quantity

MOST_ROWS_TOLD = 60
SEARCH, CONTROL, MARK, LIMIT, TEXT = "#1f6fb4", "#9a9fa6", "#d4570c", "#b3261e", "#333333"
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
drawn = matplotlib.rc_context(STYLE)  # for the time of a function; a notebook's own pictures keep their look


def sheet(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """A figure and its axes, without pyplot, which would choose a backend for the whole process."""
    figure = Figure(figsize=figsize)
    return figure, figure.subplots(rows, columns, **options)


@drawn
def accuracy_against_cost(
    path: Path,
    cost: str,
    unit: str,
    search: tuple[Floats, Floats],
    control: tuple[Floats, Floats],
    winner: tuple[float, float],
    bounds: Sequence[float],
) -> None:
    """Scored networks of the search and of random search, the front of the search, the bounds, and the winner.

    Args:
        search, control: (costs, accuracies in [0, 1]), each of shape (n,).
        winner: (cost, accuracy) as the search knew them.
        bounds: finite ends of the bound on this cost.
    """
    figure, axes = sheet(figsize=(6.4, 4))
    _scored(axes, search, control)
    for i, bound in enumerate(bounds):
        axes.axvline(bound, color=LIMIT, linestyle="--", linewidth=1.2, label=None if i else "budget")
    axes.scatter([winner[0]], [100 * winner[1]], marker="*", s=170, color=MARK, edgecolors="white", zorder=5, label="winner")
    axes.set_xlabel(f"{cost} ({unit})" if unit else cost)
    axes.set_ylabel("inherited accuracy (%)")
    axes.xaxis.set_major_formatter(lambda value, _: format_quantity(value))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=5, fontsize=8, columnspacing=1.2, handletextpad=0.4)
    save(figure, path)


@drawn
def front(
    path: Path,
    cost: str,
    unit: str,
    search: tuple[Floats, Floats],
    control: tuple[Floats, Floats],
    delivered: Sequence[tuple[float, float]],
) -> None:
    """What a cost buys: networks with inherited weights, the front of the search, and the test accuracy of delivered networks.

    Args:
        search, control: (costs, accuracies in [0, 1]), each of shape (n,).
        delivered: (cost, test accuracy) of each.
    """
    figure, axes = sheet(figsize=(8, 4.6))
    _scored(axes, search, control)
    if delivered:
        costs, accuracies = np.array(sorted(delivered)).T
        axes.plot(costs, 100 * accuracies, marker="*", markersize=13, color=MARK, markeredgecolor="white", label="delivered, test accuracy")
    axes.set_xlabel(f"{cost} ({unit})" if unit else cost)
    axes.set_ylabel("accuracy (%)")
    axes.xaxis.set_major_formatter(lambda value, _: format_quantity(value))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=4, fontsize=8, columnspacing=1.2, handletextpad=0.4)
    save(figure, path)


def _scored(axes: Axes, search: tuple[Floats, Floats], control: tuple[Floats, Floats]) -> None:
    """Networks of a search and of random search, (costs, accuracies) each, and the front of the search."""
    axes.scatter(control[0], 100 * control[1], s=12, color=CONTROL, alpha=0.5, linewidths=0, label="random search")
    axes.scatter(search[0], 100 * search[1], s=12, color=SEARCH, alpha=0.6, linewidths=0, label="search")
    best = pareto_front(*search)
    axes.plot(search[0][best], 100 * search[1][best], drawstyle="steps-post", color=SEARCH, linewidth=1.5, label="front of the search")


@drawn
def best_so_far(path: Path, search: Floats, control: Floats) -> None:
    """Best score after each evaluation, of the search and of random search; both in order of the trials."""
    figure, axes = sheet(figsize=(6.4, 4))
    for scores, color, label in ((control, CONTROL, "random search"), (search, SEARCH, "search")):
        if len(scores):
            best = np.fmax.accumulate(scores)
            axes.step(np.arange(1, len(best) + 1), best, where="post", color=color, linewidth=1.8, label=f"{label}: {best[-1]:.2f}")
    axes.set_xlabel("networks scored")
    axes.set_ylabel("best score")
    axes.legend(loc="lower right", fontsize=9)
    save(figure, path)


@drawn
def predicted_against_measured(path: Path, predicted: Floats, measured: Floats, correlation: float) -> None:
    """What the predictor said before a network was scored, against its score; both of shape (n,)."""
    figure, axes = sheet(figsize=(5, 4.4))
    axes.scatter(predicted, measured, s=12, color=SEARCH, alpha=0.6, linewidths=0)
    both = np.concatenate([predicted, measured])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, color=CONTROL, linewidth=1, linestyle=":")
    axes.set_xlabel("score predicted before scoring")
    axes.set_ylabel("score")
    axes.set_title(f"Kendall tau {correlation:.2f} on {len(predicted)} networks", fontsize=10, loc="left")
    save(figure, path)


@drawn
def accuracy_against_degree(
    path: Path, degrees: Floats, accuracies: Floats, curve: tuple[Floats, Floats, Floats], winner: tuple[float, float]
) -> None:
    """Trained networks over NN-Degree, the fitted curve with two standard deviations, and the winner's prediction.

    Args:
        degrees, accuracies: of the trained networks; accuracies in [0, 1].
        curve: (degrees, predictions, standard deviations).
        winner: (degree, predicted accuracy).
    """
    figure, axes = sheet(figsize=(6.4, 4))
    at, mean, std = curve
    axes.fill_between(at, 100 * (mean - 2 * std), 100 * (mean + 2 * std), color=SEARCH, alpha=0.12, linewidth=0)
    axes.plot(at, 100 * mean, color=SEARCH, linewidth=1.8, label="fitted")
    axes.scatter(degrees, 100 * accuracies, s=22, color=TEXT, linewidths=0, label="trained")
    axes.scatter([winner[0]], [100 * winner[1]], marker="*", s=170, color=MARK, edgecolors="white", zorder=5, label="winner, predicted")
    axes.set_xlabel("NN-Degree")
    axes.set_ylabel("accuracy on the search images (%)")
    axes.legend(loc="lower right", fontsize=9)
    save(figure, path)


@drawn
def distribution(path: Path, probabilities: Mapping[str, Mapping[str, float]]) -> None:
    """A map of how likely every option of every choice is.

    Args:
        probabilities: by choice and option.
    """
    options = list(dict.fromkeys(option for found in probabilities.values() for option in found))
    values = np.array([[found.get(option, np.nan) for option in options] for found in probabilities.values()])
    many = len(values) > MOST_ROWS_TOLD  # then colours say it
    figure, axes = sheet(figsize=(6.4, min(max(2.2, 0.24 * len(values) + 1.2), 16)))
    shown = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(options)), options, rotation=30, ha="right")
    told = range(0, len(values), -(-len(values) // MOST_ROWS_TOLD))
    axes.set_yticks(told, [list(probabilities)[i] for i in told], fontsize=8)
    axes.grid(visible=False)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and not many:
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color="white" if value > 0.6 else TEXT)
    figure.colorbar(shown, ax=axes, shrink=0.8)
    save(figure, path)


@drawn
def board(path: Path, epochs: Sequence[tuple[int, Sequence[Mapping[str, Any]]]]) -> None:
    """Best, mean and worst accuracy of a board by epoch.

    Args:
        epochs: numbers, from 0, with the entries that the board had then, each with its accuracy in [0, 1].
    """
    figure, axes = sheet(figsize=(6.4, 4))
    numbers = [epoch + 1 for epoch, _ in epochs]
    accuracies = [[100 * float(entry["accuracy"]) for entry in entries] for _, entries in epochs]
    axes.fill_between(numbers, list(map(min, accuracies)), list(map(max, accuracies)), color=SEARCH, alpha=0.2, linewidth=0, label="all")
    axes.plot(numbers, [float(np.mean(each)) for each in accuracies], color=SEARCH, linewidth=1.8, label="mean")
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy on held-out images (%)")
    axes.legend(loc="lower right", fontsize=9)
    save(figure, path)


@drawn
def regret(path: Path, epochs: Sequence[tuple[int, Mapping[str, float]]]) -> None:
    """What agents played, by epoch: their losses between those of the recommendation and of chance, and the regret summed up.

    Args:
        epochs: numbers, from 0, with the mean held-out losses of networks "drawn" and "uniform", that of the one "recommended", and how
            many "rounds" the agents played.
    """
    figure, (axes, summed) = sheet(1, 2, figsize=(9.6, 4))
    numbers = [epoch + 1 for epoch, _ in epochs]
    for name, color in (("uniform", CONTROL), ("drawn", SEARCH), ("recommended", MARK)):
        axes.plot(numbers, [each[name] for _, each in epochs], color=color, linewidth=1.8, label=name)
    axes.set_ylabel("loss on held-out images (nats)")
    axes.legend(loc="upper right", fontsize=9)
    for name, color in (("uniform", CONTROL), ("drawn", SEARCH)):
        beyond = [each["rounds"] * (each[name] - each["recommended"]) for _, each in epochs]
        summed.plot(numbers, np.cumsum(beyond), color=color, linewidth=1.8, label=name)
    summed.set_ylabel("summed regret (nats)")
    for each in (axes, summed):
        each.set_xlabel("epoch")
    save(figure, path)


@drawn
def levels(path: Path, sizes: Integers, scores: Floats, random_sizes: Integers, random_scores: Floats) -> None:
    """Accuracies of grown cells in the order of training, level by level, and of random ones after them.

    Args:
        sizes, scores: of the grown cells; accuracies in [0, 1], NaN where a training failed.
        random_sizes, random_scores: of the random ones.
    """
    figure, axes = sheet(figsize=(6.4, 4))
    at = np.arange(len(sizes))
    for size in np.unique(sizes):
        rows = sizes == size
        axes.scatter(at[rows], 100 * scores[rows], s=22, color=SEARCH, alpha=0.35 + 0.6 * size / sizes.max(), linewidths=0)
        axes.plot([at[rows].min(), at[rows].max()], 2 * [100 * np.nanmean(scores[rows])], color=SEARCH, linewidth=1.6)
        axes.annotate(f"{size}", (at[rows].min(), 100 * np.nanmean(scores[rows])), textcoords="offset points", xytext=(0, 5), color=SEARCH)
    if len(random_sizes):
        beside = len(sizes) + np.arange(len(random_sizes))
        axes.scatter(beside, 100 * random_scores, s=22, color=CONTROL, linewidths=0, label="random, of the largest size")
        axes.plot([beside[0], beside[-1]], 2 * [100 * np.nanmean(random_scores)], color=CONTROL, linewidth=1.6)
        axes.legend(loc="lower right", fontsize=9)
    axes.set_xlabel("networks trained (lines: means of a level, with its number of blocks)")
    axes.set_ylabel("accuracy on the search images (%)")
    save(figure, path)


@drawn
def latency_against_measured(path: Path, predicted: Floats, measured: Floats, winner: tuple[float, float] | None) -> None:
    """The latency model against what was measured, in ms; the winner as (predicted, measured)."""
    figure, axes = sheet(figsize=(5, 4.4))
    axes.scatter(predicted, measured, s=22, color=SEARCH, alpha=0.7, linewidths=0, label="measured for the model")
    ends = [float(min(predicted.min(), measured.min())), float(max(predicted.max(), measured.max()))]
    axes.plot(ends, ends, color=CONTROL, linewidth=1, linestyle=":")
    if winner is not None:
        axes.scatter(
            [winner[0]], [winner[1]], marker="*", s=170, color=MARK, edgecolors="white", zorder=5, label="winner, measured afterwards"
        )
    axes.set_xlabel("latency predicted (ms)")
    axes.set_ylabel("latency measured (ms)")
    axes.legend(loc="upper left", fontsize=9)
    save(figure, path)


@drawn
def losses(path: Path, found: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """The losses of every epoch: by what was trained, and by name where a loss has named parts."""
    figure, axes = sheet(figsize=(6.4, 4))
    for color, (what, epochs) in zip(itertools.cycle((SEARCH, MARK, LIMIT, CONTROL)), found.items(), strict=False):
        for name in epochs[-1] if epochs else ():
            values = [epoch.get(name, float("nan")) for epoch in epochs]
            label, style = (what, "-") if name == "loss" else (f"{what}: {name}", ":")
            axes.plot(np.arange(1, len(values) + 1), values, style, color=color, linewidth=1.6, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    axes.legend(loc="upper right", fontsize=9)
    save(figure, path)


@drawn
def architecture(path: Path, names: Mapping[str, str]) -> None:
    """The network as a row of boxes, one a block: taller for a larger expansion or width, darker for a larger kernel, a line for a skip."""
    groups: dict[str, dict[str, dict[str, str]]] = {}
    for choice, option in names.items():
        block, _, what = choice.rpartition(".") if choice.count(".") > 1 else (choice, "", choice)
        groups.setdefault(choice.split(".")[0], {}).setdefault(block, {})[what] = option
    count = sum(map(len, groups.values())) + 0.7 * len(groups)
    figure, axes = sheet(figsize=(min(max(0.78 * count + 1.4, 6), 18), 2.3))
    x = _box(axes, 0.0, "image", 0.5, "#eeeeee") + 0.25
    x = _box(axes, x, "stem", 0.7, "#dddddd") + 0.4
    for stage, blocks in groups.items():
        start = x
        for options in blocks.values():
            if list(options.values()) == ["skip"]:
                axes.plot([x - 0.1, x + 0.6], [0, 0], color=CONTROL, linestyle=":", linewidth=1.5)
                axes.text(x + 0.25, 0.12, "skip", ha="center", fontsize=7, color=CONTROL)
                x += 0.75
            else:
                lines = [f"x {option}" if what == "width" else option.replace("_", "\n") for what, option in options.items()]
                height, color = _look(options)
                x = _box(axes, x, "\n".join(lines), height, color) + 0.15
        axes.text((start + x - 0.15) / 2, -0.92, stage, ha="center", fontsize=8, color=TEXT)
        x += 0.25
    x = _box(axes, x, "head", 0.7, "#dddddd")
    axes.plot([0, x], [0, 0], color="#bbbbbb", linewidth=1, zorder=0)
    axes.set_xlim(-0.1, x + 0.1)
    axes.set_ylim(-1.1, 0.9)
    axes.axis("off")
    save(figure, path)


def _look(options: Mapping[str, str]) -> tuple[float, Any]:
    """Height from the expansion or the width of a block, and colour from its kernel, as the names of its options give them."""
    text = " ".join(options.values())
    expansion, kernel = (re.search(pattern, text) for pattern in (r"mb(\d+)", r"k(\d+)"))
    height = 0.6 + 0.12 * int(expansion.group(1)) if expansion else 0.9
    if len(options) > 1 and "width" in options:
        height = 0.6 + 0.45 * float(options["width"])
    shade = (int(kernel.group(1)) - 3) / 4 if kernel else 0.0
    return height, matplotlib.colormaps["Blues"](0.25 + 0.35 * min(shade, 1.0))


def _box(axes: Axes, x: float, text: str, height: float, color: Any) -> float:
    width = 0.6
    axes.add_patch(
        FancyBboxPatch((x, -height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.08", facecolor=color, edgecolor="#777777")
    )
    size = min(7.5, 52 / max(map(len, text.split("\n"))))  # long words fit the box as well
    axes.text(x + width / 2, 0, text, ha="center", va="center", fontsize=size, color="#111111")
    return x + width


@drawn
def save(figure: Figure, path: Path) -> None:
    """Write a figure whole."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, bbox_inches="tight")


@drawn
def layers(path: Path, told: Sequence[Mapping[str, Any]]) -> None:
    """Channels out of every layer, given and kept, and the share of the weights that each keeps.

    Args:
        path: PNG file to write.
        told: {"layer", "given": (in, out), "kept": (in, out)} of every layer in order.
    """
    given, kept = (np.array([entry[key][1] for entry in told]) for key in ("given", "kept"))
    share = [np.prod(entry["kept"]) / max(np.prod(entry["given"]), 1) for entry in told]
    figure, (above, below) = sheet(2, figsize=(max(7.0, 0.18 * len(told)), 5.0), sharex=True)
    places = np.arange(len(told))
    above.bar(places, given, color=CONTROL, width=0.9, label="given")
    above.bar(places, kept, color=SEARCH, width=0.9, label="kept")
    above.set_ylabel("channels")
    above.legend(loc="upper left")
    below.bar(places, 100 * np.array(share), color=SEARCH, width=0.9)
    below.set_ylabel("in times out kept, %")
    below.set_xticks(places, [entry["layer"] for entry in told], rotation=90, fontsize=7 if len(told) < 60 else 5)
    below.set_xlim(-0.6, len(told) - 0.4)
    save(figure, path)
