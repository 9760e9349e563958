"""The loop of a search: ask a batch, reject, score, tell.

Every proposal is in the study before it is scored. A process that dies leaves trials RUNNING; the next one of the same
worker name scores those first and goes on, so no trial is lost or doubled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import optuna
from optuna.trial import FrozenTrial, TrialState

from evonas.budget import Budget
from evonas.explorers.base import Explorer
from evonas.space import Population, SearchSpace
from evonas.study import REPEATS, WORKER, History, annotate, distributions, rows_of, running, store_proposals

MOST_REJECTED_IN_A_ROW = 1000


class Fitness(Protocol):
    """Scores a population of shape (n, choices): n numbers, higher is better, all measured on the same images."""

    def __call__(self, population: Population, /) -> npt.NDArray[np.float64]: ...


@dataclass(frozen=True)
class SearchResult:
    """What a search ends with.

    Attributes:
        history: every trial of the study.
        evaluations: architectures scored, in this run and before.
        rejected: proposals that cost no evaluation: infeasible, or scored already (an Optuna sampler makes those; ours do not).
        stopped: "evaluations" (all made), "exhausted" (nothing feasible is left) or "rejected" (a sampler that
            proposed nothing new and feasible a thousand times in a row).
    """

    history: History
    evaluations: int
    rejected: int
    stopped: str


def search(
    space: SearchSpace,
    fitness: Fitness,
    explorer: optuna.samplers.BaseSampler,
    *,
    evaluations: int,
    study: optuna.Study,
    budget: Budget | None = None,
    batch: int | None = None,
    worker: str = "0",
    on_progress: Callable[[int, float], None] | None = None,
) -> SearchResult:
    """Search until `evaluations` architectures of the study are scored.

    Args:
        space: what is searched.
        fitness: scores a population; a score that is NaN is told as a failed trial, which counts as an evaluation.
        explorer: an `Explorer`, or any Optuna sampler.
        evaluations: number of scored trials at which to stop, trials that the study holds already included.
        study: where trials are kept (`evonas.study.open_study`).
        budget: costs to record and bounds to keep.
        batch: proposals asked and scored together; a generation of our explorers, 1 for Optuna's samplers.
        worker: name of this process among those that share the study. Trials left RUNNING by a process of this name are
            scored first, so two living processes need two names.
        on_progress: called with (evaluations so far, best score so far) after every batch.
    """
    budget = budget or Budget()
    study.sampler = explorer
    rejected_in_a_row = 0
    stopped = "evaluations"
    _score(space, fitness, study, worker)
    while (done := _evaluations(study)) < evaluations:
        if on_progress is not None:
            on_progress(done, _best(study))
        wanted = evaluations - done
        if isinstance(explorer, Explorer):
            number = len(study.get_trials(deepcopy=False))
            rows = explorer.rows(study, number, min(wanted, batch or wanted))
            if len(rows) == 0:
                stopped = "exhausted"
                break
            store_proposals(study, space, budget, rows, worker, [explorer.notes(number + k) for k in range(len(rows))])
            asked = len(rows)
        else:
            asked = min(wanted, batch or 1)
            _ask(study, space, budget, asked, worker)
        scored = _score(space, fitness, study, worker)
        rejected_in_a_row = 0 if scored else rejected_in_a_row + asked
        if rejected_in_a_row >= MOST_REJECTED_IN_A_ROW:
            stopped = "rejected"
            break
    if on_progress is not None:
        on_progress(_evaluations(study), _best(study))
    finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    return SearchResult(History.of(study, space), _evaluations(study), finished - _evaluations(study), stopped)


def _ask(study: optuna.Study, space: SearchSpace, budget: Budget, count: int, worker: str) -> None:
    """Ask an Optuna sampler; what breaks the budget is told PRUNED at once, with its constraints (of FAIL, TPE learns nothing)."""
    for _ in range(count):
        trial = study.ask(dict(distributions(space)))
        row = space.from_names(trial.params)
        violations = annotate(study, trial._trial_id, space, budget, row)
        if (violations <= 0).all() and space.contains(np.array([row]))[0]:
            trial.set_user_attr(WORKER, worker)
        else:
            study.tell(trial, state=TrialState.PRUNED)


def _score(space: SearchSpace, fitness: Fitness, study: optuna.Study, worker: str) -> int:
    """Score and tell what this worker has RUNNING. Returns how many were scored.

    An architecture that an earlier trial holds already is not scored again: it is told that trial's score, or PRUNED where
    there is none.
    """
    trials = running(study, worker)
    if not trials:
        return 0
    history = History.of(study, space)
    first = {key: (int(number), float(score)) for key, number, score in reversed(list(zip(*_columns(history), strict=True)))}
    new: list[FrozenTrial] = []
    for trial, key in zip(trials, space.keys(rows_of(space, trials)), strict=True):
        number, score = first[key]
        if number == trial.number:
            new.append(trial)
            continue
        study._storage.set_trial_user_attr(trial._trial_id, REPEATS, number)
        if np.isfinite(score):
            study.tell(trial.number, score)
        else:
            study.tell(trial.number, state=TrialState.PRUNED)
    if new:
        scores = np.asarray(fitness(space.canonical(rows_of(space, new))), dtype=np.float64)
        if scores.shape != (len(new),):
            raise TypeError(f"the fitness returned shape {scores.shape} for {len(new)} architectures")
        for trial, score in zip(new, scores.tolist(), strict=True):
            if np.isfinite(score):
                study.tell(trial.number, score)
            else:
                study.tell(trial.number, state=TrialState.FAIL)
    return len(new)


def _columns(history: History) -> tuple[list[tuple[int, ...]], list[int], list[float]]:
    return list(map(tuple, history.population.tolist())), history.numbers.tolist(), history.scores.tolist()


def _evaluations(study: optuna.Study) -> int:
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    return sum(REPEATS not in trial.user_attrs for trial in finished)


def _best(study: optuna.Study) -> float:
    scores = [trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if trial.value is not None]
    return max(scores, default=float("nan"))
