"""What the Optuna dashboard shows of a search beside its numbers: what it was asked for, and the network that came of it, drawn.

Attributes of the study always; notes, which are the dashboard's own, where it is installed (the extra `dashboard`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna

from evonas.budget import Budget
from evonas.study import score_of
from evonas.units import format_quantity
from recipes.runner.run_folder import STUDIES

IS = {
    STUDIES[0]: "the search: networks with inherited weights",
    STUDIES[1]: "random search with as many evaluations, to hold the search against",
    STUDIES[2]: "finalists: the best of the search, trained on their own",
}


def introduce(studies: Sequence[optuna.Study], recipe: str, data: str, budget: Budget, out: str) -> None:
    """Attributes of the studies that say what was asked for, in the order in which one reads them; kept as they are once written."""
    for study, what in zip(studies, IS.values(), strict=False):
        known = study.user_attrs
        told = {
            "is": what,
            "recipe": recipe,
            "images": Path(data).name or str(data),
            "asked for": str(budget) or "no bounds",
            "run folder": str(out),
        }
        for name, value in told.items():
            if name not in known:
                study.set_user_attr(name, value)


def conclude(study: optuna.Study, result: Mapping[str, Any], page: str, lines: Sequence[str]) -> None:
    """Notes on the study and on the trial of the winner: what was delivered, and which network it is.

    Args:
        study: of the search.
        result: of the run.
        page: where the report is.
        lines: the network, see `evonas.plot.in_lines`.
    """
    costs = ", ".join(f"{name} {format_quantity(value, result['units'][name])}" for name, value in result["costs"].items())
    drawing = "\n".join(f"    {line}" for line in lines)
    test = 100 * result["accuracy"]["test"]
    asked = ", ".join(result["budget"]) or "no bounds"
    text = f"**{test:.2f} %** of the test images, {costs}; asked for: {asked}.\n\n{drawing}\n\n{result.get('said', '')}\n\nReport: `{page}`"
    _note(study, text)
    trials = {entry["trial"] for entry in result["tried"] if entry.get("architecture") == result["architecture"]}
    for trial in study.get_trials(deepcopy=False):
        if trial.number in trials and score_of(trial) is not None:
            _note(study, f"This network was delivered: {text}", trial._trial_id)


def conclude_front(study: optuna.Study, cost: str, points: Sequence[Mapping[str, Any]], page: str) -> None:
    """A note on the study of a front: what was delivered at which points.

    Args:
        points: {"bound", "folder", "test"} each, see `recipes.runner.front`.
    """
    lines = [f"* `{point['bound']}`: **{100 * point['test']:.2f} %** of the test images" for point in points if point["folder"]]
    delivered = "\n".join(lines) or "Nothing is delivered yet."
    _note(study, f"The front of accuracy and {cost}.\n\n{delivered}\n\nReport: `{page}`")


def _note(study: optuna.Study, text: str, trial: int | None = None) -> None:
    """One note in place of whatever stands there; none where the dashboard is not installed."""
    try:
        from optuna_dashboard import get_note, save_note
    except ImportError:
        return
    noted: Any = study if trial is None else SimpleNamespace(storage=study._storage, study=study, _trial_id=trial)
    if get_note(noted) != text:
        save_note(noted, text)
