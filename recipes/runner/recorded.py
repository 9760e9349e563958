"""Records of a training that searches: what it recommends after every epoch, as a trial of a study beside those of the search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from evonas.budget import Budget
from evonas.space import SearchSpace
from evonas.storage import patiently
from evonas.study import open_study, record
from recipes.runner.progress import say
from recipes.runner.run_folder import JOURNAL
from supernet.training.way import Record

EPOCHS = "epochs"
EPOCH = "epoch"


def recorder(folder: Path, space: SearchSpace, budget: Budget) -> Callable[[int, Record], None]:
    """Keeps one trial an epoch in the study `epochs` of the run folder; an epoch that a killed run had recorded is not recorded twice.

    Args:
        folder: of the run.
        space: un-narrowed.
        budget: whose costs and constraints the trials carry.
    """
    study = open_study(folder / JOURNAL, EPOCHS)
    known = {trial.user_attrs.get(EPOCH) for trial in study.get_trials(deepcopy=False)}

    def keep(epoch: int, found: Record) -> None:
        if epoch not in known:
            attributes = {**found.attributes, EPOCH: epoch}
            patiently(lambda: record(study, space, found.architecture, found.score, budget=budget, attributes=attributes), say)

    return keep


def epochs_of(study: optuna.Study) -> list[dict[str, Any]]:
    """What was recorded, in order of the epochs: score and attributes of each."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if EPOCH in trial.user_attrs]
    return [{"score": trial.value, **trial.user_attrs} for trial in sorted(trials, key=lambda trial: int(trial.user_attrs[EPOCH]))]
