"""Figures of a search as plotly objects, which answer to the mouse: for notebooks, and for the pages of reports.

    found = evonas.find("digits", "macs=400k")
    search = plot.Scored.of(found.study)
    plot.against_cost(search, "macs").show()

Every point says under the mouse which network it is. Plotly is imported with this module and with nothing else of evonas.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import optuna
import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from evonas.errors import UsageError
from evonas.explorers.pareto import pareto_front
from evonas.study import attribute_name, score_of

SEARCH, CONTROL, MARK, LIMIT = "#1f6fb4", "#8a9099", "#d4570c", "#b3261e"
OTHERS = ("#1f6fb4", "#d4570c", "#2a7f4f", "#8e44ad", "#b8860b", "#008b8b", "#c2185b", "#5d4037")  # runs beside one another
LINE, LINES = 64, 24  # characters and lines of a network under the mouse
SAME = 0.005  # two costs of a network that differ by less are one point
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Networks that a search scored, in order of its trials.

    Attributes:
        numbers: of their trials, shape (n,).
        accuracies: in [0, 1], shape (n,): with inherited weights, where the trials tell it; the scores otherwise.
        scores: what the search went by, shape (n,).
        keeps: whether they keep the budget, shape (n,).
        columns: what else the trials tell as numbers, by name: costs are named with their units, `latency_ms`. Each of shape (n,).
        networks: which they are: see `under_the_mouse`.
    """

    numbers: npt.NDArray[np.int64]
    accuracies: Floats
    scores: Floats
    keeps: npt.NDArray[np.bool_]
    columns: Mapping[str, Floats]
    networks: tuple[str, ...]

    @classmethod
    def of(cls, study: optuna.Study | Sequence[FrozenTrial]) -> Self:
        """Of a study, or of its trials."""
        trials = study.get_trials(deepcopy=False) if isinstance(study, optuna.Study) else study
        found = [(trial, score) for trial in trials if (score := score_of(trial)) is not None]
        told = [trial.user_attrs for trial, _ in found]
        names = dict.fromkeys(name for attributes in told for name, value in attributes.items() if isinstance(value, int | float))
        return cls(
            np.array([trial.number for trial, _ in found], dtype=np.int64),
            np.array([a.get("accuracy", score) for a, (_, score) in zip(told, found, strict=True)], dtype=np.float64),
            np.array([score for _, score in found], dtype=np.float64),
            np.array([all(v <= 0 for v in trial.system_attrs.get("constraints", ())) for trial, _ in found], dtype=bool),
            {name: np.array([attributes.get(name, math.nan) for attributes in told], dtype=np.float64) for name in names},
            tuple(under_the_mouse(trial.params) for trial, _ in found),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def cost(self, name: str, unit: str = "") -> Floats:
        """What the networks cost, shape (n,).

        Raises:
            UsageError: the trials do not tell it.
        """
        key = attribute_name(name, unit)
        if key not in self.columns:
            raise UsageError(f"The trials tell no {key}; expected one of {', '.join(self.columns) or 'none'}.")
        return self.columns[key]


@dataclass(frozen=True)
class Winner:
    """Where the delivered network stands.

    Attributes:
        accuracy: in [0, 1], as the search knew it.
        cost: of the finished network.
        predicted: what the search took its cost for; None where that is the same.
        network: in lines.
    """

    accuracy: float
    cost: float
    predicted: float | None = None
    network: str = ""


def in_lines(names: Mapping[str, Any]) -> list[str]:
    """An architecture in a few lines: a stage each, its blocks one after the other; choices of a block joined by `+`."""
    stages: dict[str, dict[str, list[str]]] = {}
    for choice, option in names.items():
        stage, _, rest = choice.partition(".")
        stages.setdefault(stage, {}).setdefault(rest.partition(".")[0], []).append(str(option))
    alone = [stage for stage, blocks in stages.items() if list(blocks) == [""]]
    if len(alone) == len(stages):  # no stages: name and option
        lines = [", ".join(f"{name} {option}" for name, option in names.items())]
    else:
        lines = [f"{stage}: {', '.join('+'.join(options) for options in blocks.values())}" for stage, blocks in stages.items()]
    return lines


def under_the_mouse(names: Mapping[str, Any]) -> str:
    """The lines of an architecture, wrapped: what goes on in another line begins there with a no-break space."""
    wrapped = [
        part
        for line in in_lines(names)
        for part in textwrap.wrap(line, LINE, subsequent_indent="\N{NO-BREAK SPACE}", break_on_hyphens=False)
    ]
    return "<br>".join(wrapped if len(wrapped) <= LINES else [*wrapped[: LINES - 1], f"... {len(wrapped) - LINES + 1} more lines"])


def against_cost(
    search: Scored, cost: str, unit: str = "", *, control: Scored | None = None, winner: Winner | None = None, bounds: Sequence[float] = ()
) -> go.Figure:
    """Accuracy against a cost: the networks of a search, those of random search, the front, the bounds, and the winner.

    Args:
        search, control: what was scored.
        cost, unit: which cost, `"latency", "ms"`.
        winner: what was delivered; where its measured cost is not what was predicted, both are shown.
        bounds: finite ends of the bound on the cost.

    Raises:
        UsageError: the trials do not tell this cost.
    """
    figure = _figure(f"{cost} ({unit})" if unit else cost, "accuracy with inherited weights (%)", unit)
    if control is not None and len(control):
        _points(figure, control, cost, unit, "random search", CONTROL)
    _points(figure, search, cost, unit, "search", SEARCH)
    _front(figure, search, cost, unit)
    for i, bound in enumerate(bounds):
        figure.add_vline(
            x=bound,
            line={"color": LIMIT, "dash": "dash", "width": 1.5},
            annotation={"text": "bound" if i == 0 else "", "xanchor": "right", "yanchor": "bottom", "y": 0},
        )
    if winner is not None:
        _winner(figure, winner)
    return figure


def best_so_far(search: Scored, control: Scored | None = None) -> go.Figure:
    """The best score within the budget after every network, of a search and of random search."""
    figure = _figure("networks scored", "best score")
    for scored, name, color in ((control, "random search", CONTROL), (search, "search", SEARCH)):
        if scored is not None and scored.keeps.any():
            scores = np.where(scored.keeps, scored.scores, math.nan)
            best, at = np.fmax.accumulate(scores), np.arange(1, len(scores) + 1)
            holds = np.maximum.accumulate(np.where(scores == best, at - 1, 0))  # the network that has the best score so far
            figure.add_scatter(
                x=at,
                y=best,
                mode="lines",
                name=f"{name}: {best[-1]:.3f}",
                line={"color": color, "width": 2, "shape": "hv"},
                text=[scored.networks[i] for i in holds],
                customdata=scored.numbers[holds],
            )
    figure.update_traces(hovertemplate="best of %{x}: %{y:.4g}<extra></extra>")
    return figure


def front(
    search: Scored, cost: str, unit: str = "", *, control: Scored | None = None, delivered: Sequence[tuple[float, float, str]] = ()
) -> go.Figure:
    """What a cost buys: networks with inherited weights, their front, and test accuracies of delivered networks.

    Args:
        delivered: (cost, test accuracy in [0, 1], network in lines) of each.

    Raises:
        UsageError: the trials do not tell this cost.
    """
    figure = against_cost(search, cost, unit, control=control)
    figure.update_yaxes(title_text="accuracy (%)")
    if delivered:
        _stars(figure, delivered, cost, unit, "delivered: test accuracy", MARK)
    return figure


def foretold(predicted: Floats, measured: Floats) -> go.Figure:
    """What a predictor said of networks before they were scored, against their scores; both of shape (n,)."""
    figure = _figure("score predicted before scoring", "score")
    ends = [float(min(predicted.min(), measured.min())), float(max(predicted.max(), measured.max()))]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="as predicted", line={"color": CONTROL, "dash": "dot", "width": 1.5}, hoverinfo="skip"
    )
    figure.add_scatter(x=predicted, y=measured, mode="markers", name="networks", marker={"color": SEARCH, "size": 7, "opacity": 0.65})
    figure.update_traces(hovertemplate="predicted %{x:.4g}, then %{y:.4g}<extra></extra>", selector={"mode": "markers"})
    return figure


def losses(found: Mapping[str, Sequence[Mapping[str, float]]]) -> go.Figure:
    """The losses of every epoch, by what was trained and by the names of their parts."""
    figure = _figure("epoch", "training loss")
    for color, (what, epochs) in zip(itertools.cycle(OTHERS), found.items(), strict=False):
        for name in epochs[-1] if epochs else ():
            values = [epoch.get(name, math.nan) for epoch in epochs]
            label, dash = (what, "solid") if name == "loss" else (f"{what}: {name}", "dot")
            line = {"color": color, "dash": dash, "width": 2}
            figure.add_scatter(x=np.arange(1, len(values) + 1), y=values, mode="lines", name=label, line=line)
    figure.update_traces(hovertemplate="epoch %{x}: %{y:.4g}<extra>%{fullData.name}</extra>")
    return figure


def compared(runs: Mapping[str, Sequence[tuple[float, float, str]]], cost: str, unit: str = "") -> go.Figure:
    """What several runs delivered: test accuracy against a cost.

    Args:
        runs: by name, (cost, test accuracy in [0, 1], network in lines) of every network that a run delivered.
    """
    figure = _figure(f"{cost} ({unit})" if unit else cost, "test accuracy (%)", unit)
    for color, (name, networks) in zip(itertools.cycle(OTHERS), runs.items(), strict=False):
        if networks:
            _stars(figure, networks, cost, unit, name, color)
    return figure


def _stars(figure: go.Figure, networks: Sequence[tuple[float, float, str]], cost: str, unit: str, name: str, color: str) -> None:
    """Delivered networks: (cost, test accuracy in [0, 1], network in lines) each."""
    costs, accuracies, texts = zip(*sorted(networks), strict=True)
    figure.add_scatter(
        x=costs,
        y=100 * np.array(accuracies),
        text=texts,
        mode="lines+markers" if len(costs) > 1 else "markers",
        name=name,
        line={"color": color, "width": 1.5, "dash": "dot"},
        marker={"symbol": "star", "size": 15, "color": color, "line": {"color": "white", "width": 1}},
        hovertemplate=_hover(cost, unit, name),
    )


def _points(figure: go.Figure, scored: Scored, cost: str, unit: str, name: str, color: str) -> None:
    figure.add_scatter(
        x=scored.cost(cost, unit),
        y=100 * scored.accuracies,
        text=scored.networks,
        customdata=scored.numbers,
        mode="markers",
        name=name,
        marker={"color": color, "size": 7, "opacity": 0.6},
        hovertemplate=_hover(cost, unit, f"{name}, trial %{{customdata}}"),
    )


def _front(figure: go.Figure, scored: Scored, cost: str, unit: str) -> None:
    costs = scored.cost(cost, unit)
    known = np.flatnonzero(np.isfinite(costs))
    if len(known):
        best = known[pareto_front(costs[known], scored.accuracies[known])]
        line = {"color": SEARCH, "width": 1.5, "shape": "hv"}
        figure.add_scatter(
            x=costs[best], y=100 * scored.accuracies[best], mode="lines", name="front of the search", line=line, hoverinfo="skip"
        )


def _winner(figure: go.Figure, winner: Winner) -> None:
    """The delivered network; where it was taken for another cost, the way from there."""
    before, y = winner.predicted, 100 * winner.accuracy
    moved = before is not None and abs(before - winner.cost) > SAME * winner.cost
    if moved:
        figure.add_scatter(
            x=[before, winner.cost],
            y=[y, y],
            mode="lines+markers",
            name="winner, as predicted",
            text=[winner.network] * 2,
            line={"color": MARK, "dash": "dot", "width": 1.5},
            marker={"symbol": ["star-open", "star"], "size": [13, 1], "color": MARK},
            hovertemplate="the winner, as the search predicted it: %{x:.4~s}<extra></extra>",
        )
    figure.add_scatter(
        x=[winner.cost],
        y=[y],
        mode="markers",
        name="winner, measured" if moved else "winner",
        text=[winner.network],
        marker={"symbol": "star", "size": 17, "color": MARK, "line": {"color": "white", "width": 1}},
        hovertemplate="%{text}<br>%{y:.2f} %, %{x:.4~s}<extra>winner</extra>",
    )


def _hover(cost: str, unit: str, who: str) -> str:
    number = "%{x:.4~g}" if unit else "%{x:.4~s}"
    return f"%{{text}}<br>%{{y:.2f}} %, {cost} {number} {unit}<extra>{who}</extra>"


def _figure(x: str, y: str, unit: str = "") -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 16, "t": 16, "b": 50},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
        hoverlabel={"align": "left"},
        font={"size": 13},
    )
    figure.update_xaxes(title_text=x, tickformat="" if unit else "~s", automargin=True)
    figure.update_yaxes(title_text=y, automargin=True)
    return figure
