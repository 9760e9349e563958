"""The report of a finished run: `report.html` and its pictures, made from what stands in the run folder alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial
from scipy.stats import kendalltau

from evonas.explorers.screened import Predictor, foretold
from evonas.files import file_name, inside, read_json, write_json
from evonas.study import SEARCH, History, attribute_name, score_of, space_of
from evonas.units import format_quantity
from recipes.runner.movements import RANKED_BY
from recipes.runner.pages import pictures
from recipes.runner.pages.page import write_page
from recipes.runner.recorded import EPOCH, EPOCHS, epochs_of
from recipes.runner.run_folder import STUDIES, copied_studies, finished, read_config, read_result
from recipes.runner.scoring import FUSED, IN_WORDS
from recipes.runner.training import LOSSES
from supernet.training.agents import HELD_OUT_LOSS


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
    images = [
        (_costs(folder, result, trials, name), f"Inherited accuracy against {name}")
        for name in result["costs"]
        if _known(trials, result["units"][name], name)
    ]
    pictures.best_so_far(folder / "best_so_far.png", *(_within(h, found) for h, found in zip(histories, trials, strict=True)))
    images.append(("best_so_far.png", "Best so far within the budget, beside random search with as many evaluations"))
    screened = read_json(inside(folder, "predictions.json")) if (folder / "predictions.json").exists() else []
    if len(screened) > 2:
        predicted, measured = np.array(screened).T
        correlation = float(kendalltau(predicted, measured).statistic)
        pictures.predicted_against_measured(folder / "predicted.png", predicted, measured, correlation)
        images.append(("predicted.png", "What the predictor said of a network before it was scored"))
    pictures.architecture(folder / "architecture.png", result["architecture"])
    losses = {name: read_json(file) for name, file in _losses(folder).items()}
    if records and "board" in records[-1]:
        pictures.board(folder / "board.png", [(int(entry[EPOCH]), entry["board"]) for entry in records])
        images.append(("board.png", "The board of prioritised paths after every epoch: accuracy on held-out images with inherited weights"))
    if records and "distribution" in records[-1]:
        pictures.distribution(folder / "distribution.png", records[-1]["distribution"])
        images.append(("distribution.png", "What was learned until the last epoch: how likely every option of every choice is held"))
    if records and HELD_OUT_LOSS in records[-1]:
        pictures.regret(folder / "regret.png", [(int(entry[EPOCH]), entry[HELD_OUT_LOSS]) for entry in records])
        images.append(("regret.png", "What the agents draw, beside chance and beside what they recommend, on held-out images"))
    if "layers" in result:
        pictures.layers(folder / "layers.png", result["layers"])
    if losses:
        pictures.losses(folder / "losses.png", losses)
        images.append(("losses.png", "Loss by epoch, of the supernet and of the winner on its own"))
    return write_page(
        folder,
        "report.html",
        result=result,
        config=config,
        images=images,
        rows=cost_rows(result),
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


def _within(history: History, trials: Sequence[FrozenTrial]) -> pictures.Floats:
    """The scores of a history, NaN for networks that break the budget."""
    kept = [trial.number for trial in trials if all(violation <= 0 for violation in trial.system_attrs.get("constraints", ()))]
    return np.where(np.isin(history.numbers, kept), history.scores, np.nan)


def _rungs(result: dict[str, Any]) -> list[str]:
    """The epochs at which finalists were judged, in order."""
    found = {epoch for entry in result.get("finalists") or [] for epoch in entry["accuracy"]}
    return sorted(found, key=int)


def _losses(folder: Path) -> dict[str, Path]:
    """The losses of all trainings of a run, by what was trained."""
    found = {file.name.removesuffix(LOSSES): inside(folder, file.name) for file in folder.glob(f"*{LOSSES}")}
    return {name: found[name] for name in sorted(found, key=lambda name: (name != "supernet", name))}


def _costs(folder: Path, result: dict[str, Any], studies: Sequence[Sequence[FrozenTrial]], name: str) -> str:
    """The picture of one cost; returns its file name."""
    unit = result["units"][name]
    key = attribute_name(name, unit)
    points = []
    for found in studies:
        trials = [t for t in found if score_of(t) is not None and key in t.user_attrs]
        accuracies = [t.user_attrs.get("accuracy", score_of(t)) for t in trials]
        points.append((np.array([t.user_attrs[key] for t in trials]), np.array(accuracies, dtype=np.float64)))
    bound = result["bounds"].get(name, {})
    ends = [end for end in (bound.get("lower"), bound.get("upper")) if end is not None]
    file = file_name(f"accuracy_{name}", ".png")
    winner = (result["costs"][name], result["accuracy"]["inherited"])
    pictures.accuracy_against_cost(folder / file, name, unit, points[0], points[1], winner, ends)
    return file


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
