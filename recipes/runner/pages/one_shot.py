"""The report of a finished run: `report.html` and its pictures, made from what stands in the run folder alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial
from scipy.stats import kendalltau

from evonas import plot
from evonas.explorers.screened import Predictor, foretold
from evonas.files import file_name, inside, read_json, write_json
from evonas.study import SEARCH, History, attribute_name, space_of
from evonas.units import format_quantity
from recipes.runner.movements import RANKED_BY
from recipes.runner.pages import pictures
from recipes.runner.pages.page import Picture, write_page
from recipes.runner.recorded import EPOCH, EPOCHS, epochs_of
from recipes.runner.run_folder import STUDIES, copied_studies, finished, read_config, read_result
from recipes.runner.scoring import FUSED, IN_WORDS
from recipes.runner.training import LOSSES
from supernet.training.agents import HELD_OUT_LOSS

ENOUGH = 30  # networks
FIRST = ("supernet", "teacher", "retrain")


def write_report(path: str | Path, predictor: Predictor | None = None) -> Path:
    """Write `report.html`.

    Args:
        path: a finished run.
        predictor: the one that screened the search; its predictions are kept in `predictions.json` and read from there
            when none is given.

    Raises:
        UsageError: the run has no result.
    """
    folder = finished(path)
    result, config = read_result(folder / "result.json"), read_config(folder)
    with copied_studies(folder, [*STUDIES[:2], EPOCHS]) as (study, control, epochs):
        space, records = space_of(study), epochs_of(epochs)
        trials = [s.get_trials(deepcopy=False) for s in (study, control)]
        ranked_by = IN_WORDS[study.user_attrs.get(SEARCH, {}).get(RANKED_BY, FUSED)]
    histories = [History.of_trials(found, space) for found in trials[:2]]
    if predictor is not None:
        write_json(folder / "predictions.json", foretold(histories[0], predictor))
    scored, random = (plot.Scored.of(found) for found in trials)
    moved = _moved(result, trials[0])
    images = [
        _against_cost(folder, result, scored, random, name, moved.get(name))
        for name in result["costs"]
        if _known(trials, result["units"][name], name)
    ]
    images.append(_best_so_far(folder, scored, random))
    screened = read_json(inside(folder, "predictions.json")) if (folder / "predictions.json").exists() else []
    if len(screened) > 2:
        images.append(_foretold(folder, *np.array(screened).T))
    pictures.architecture(folder / "architecture.png", result["architecture"])
    losses = {name: read_json(file) for name, file in _losses(folder).items()}
    if records and "board" in records[-1]:
        pictures.board(folder / "board.png", [(int(entry[EPOCH]), entry["board"]) for entry in records])
        text = "The board of prioritised paths after every epoch: accuracy on held-out images with inherited weights"
        images.append(Picture("board.png", text))
    if records and "distribution" in records[-1]:
        pictures.distribution(folder / "distribution.png", records[-1]["distribution"])
        text = "What was learned until the last epoch: how likely every option of every choice is held"
        images.append(Picture("distribution.png", text))
    if records and HELD_OUT_LOSS in records[-1]:
        pictures.regret(folder / "regret.png", [(int(entry[EPOCH]), entry[HELD_OUT_LOSS]) for entry in records])
        text = "What the agents draw, beside chance and beside what they recommend, on held-out images"
        images.append(Picture("regret.png", text))
    if "layers" in result:
        pictures.layers(folder / "layers.png", result["layers"])
    if losses:
        pictures.losses(folder / "losses.png", losses)
        images.append(Picture("losses.png", "Loss by epoch, of the supernet and of what was trained on its own", plot.losses(losses)))
    return write_page(
        folder,
        "report.html",
        result=result,
        config=config,
        images=images,
        rows=cost_rows(result),
        data=named(config.get("data")),
        chance=chance(result["accuracy"]["test"], (result.get("input") or {}).get("test_images")),
        moved=_predicted_by(result) if any(moved.values()) else "",
        history=histories[0],
        rungs=_rungs(result),
        records=records,
        ranked_by=ranked_by,
        rounds=_rounds(folder, result),
    )


def _rounds(folder: Path, result: dict[str, Any]) -> list[list[str]]:
    """The rounds of a run that had several, a row each."""
    found: list[list[str]] = []
    for file in sorted(folder.glob("round?.json")):
        told = read_json(inside(folder, file.name))
        median = ", ".join(f"{name} {format_quantity(value, result['units'][name])}" for name, value in told["median"].items())
        best = max(entry["score"] for entry in told["front"])
        found.append([str(len(found) + 1), str(len(told["front"])), f"{best:.3f}", median, str(told["never_tried"])])
    return found


def _rungs(result: dict[str, Any]) -> list[str]:
    """The epochs at which finalists were judged, in order."""
    found = {epoch for entry in result.get("finalists") or [] for epoch in entry["accuracy"]}
    return sorted(found, key=int)


def _losses(folder: Path) -> dict[str, Path]:
    """The losses of all trainings of a run, by what was trained."""
    found = {file.name.removesuffix(LOSSES): inside(folder, file.name) for file in folder.glob(f"*{LOSSES}")}
    return {name: found[name] for name in sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))}


def _against_cost(
    folder: Path, result: dict[str, Any], search: plot.Scored, control: plot.Scored, name: str, predicted: float | None
) -> Picture:
    """The picture of one cost."""
    unit, bound = result["units"][name], result["bounds"].get(name, {})
    ends = [end for end in (bound.get("lower"), bound.get("upper")) if end is not None]
    file = file_name(f"accuracy_{name}", ".png")
    winner = plot.Winner(result["accuracy"]["inherited"], result["costs"][name], predicted, plot.under_the_mouse(result["architecture"]))
    pictures.accuracy_against_cost(
        folder / file,
        name,
        unit,
        (search.cost(name, unit), search.accuracies),
        (control.cost(name, unit), control.accuracies) if len(control) else (np.zeros(0), np.zeros(0)),
        (winner.cost, winner.accuracy),
        ends,
    )
    figure = plot.against_cost(search, name, unit, control=control, winner=winner, bounds=ends)
    return Picture(file, f"Accuracy with inherited weights against {name}", figure, few(len(search)))


def _best_so_far(folder: Path, search: plot.Scored, control: plot.Scored) -> Picture:
    within = [np.where(scored.keeps, scored.scores, np.nan) for scored in (search, control)]
    pictures.best_so_far(folder / "best_so_far.png", *within)
    text = "Best so far within the budget, beside random search with as many evaluations"
    return Picture("best_so_far.png", text, plot.best_so_far(search, control), few(len(search)))


def _foretold(folder: Path, predicted: pictures.Floats, measured: pictures.Floats) -> Picture:
    tau = float(kendalltau(predicted, measured).statistic)
    pictures.predicted_against_measured(folder / "predicted.png", predicted, measured, tau)
    text = f"What the predictor said of a network before it was scored: Kendall tau {tau:.2f} on {len(predicted)} networks"
    return Picture("predicted.png", text, plot.foretold(predicted, measured), few(len(predicted)))


def few(networks: int) -> str:
    """What to beware of where networks are few: by chance alone a tau of n networks is within 1.96 sd of 0 (Kendall, 1938)."""
    if networks >= ENOUGH or networks < 2:
        return ""
    band = 1.96 * math.sqrt(2 * (2 * networks + 5) / (9 * networks * (networks - 1)))
    return f"{networks} networks are few: a rank correlation within {min(band, 1.0):.2f} of 0 would be chance, and so may be who is ahead."


def chance(test: float, images: int | None) -> float | None:
    """Half the 95 % interval of an accuracy that so many test images give; None where nobody knows how many."""
    return 1.96 * math.sqrt(max(test * (1 - test), 0.0) / images) if images else None


def named(data: Any) -> str:
    """Images as people call them: not by the folders that a file lies in."""
    return Path(str(data)).name or str(data)


def _moved(result: dict[str, Any], trials: Sequence[FrozenTrial]) -> dict[str, float | None]:
    """What the search took the costs of the winner for, where that is not what was measured."""
    won = [entry["trial"] for entry in result["tried"] if entry.get("architecture") == result["architecture"]]
    known = next((trial.user_attrs for trial in trials if won and trial.number == won[0]), {})
    found = {name: known.get(attribute_name(name, result["units"][name])) for name in result["costs"]}
    return {
        name: value if value is not None and abs(value - result["costs"][name]) > plot.SAME * result["costs"][name] else None
        for name, value in found.items()
    }


def _predicted_by(result: dict[str, Any]) -> str:
    """What predicted the costs that were measured in the end."""
    residual = (result.get("latency") or {}).get("residual")
    error = "" if residual is None else f", {100 * residual['mean']:.1f} % off on average and {100 * residual['worst']:.1f} % at worst"
    return f"the latency table{error}"


def _known(studies: Sequence[Sequence[FrozenTrial]], unit: str, cost: str) -> bool:
    """Whether the trials of a search carry a cost; one that was measured of the winner alone they do not."""
    return any(attribute_name(cost, unit) in trial.user_attrs for found in studies for trial in found)


def cost_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(cost, value, bound) as text."""
    rows = []
    for name, value in result["costs"].items():
        unit, bound = result["units"][name], result["bounds"].get(name)
        limits = (
            "" if bound is None else " to ".join(format_quantity(end, unit) for end in (bound["lower"], bound["upper"]) if end is not None)
        )
        rows.append((name, "not measured" if math.isnan(value) else format_quantity(value, unit), limits))
    return rows
