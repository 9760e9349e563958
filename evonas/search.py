"""The loop of a search: reserve a batch, reject, score, tell.

Any number of processes may share a study. In its turn (`evonas.turns`) a worker takes over what an ended worker has left, or reserves the
trial numbers that follow and writes the rows that belong to them, so that no two workers propose the same and no more evaluations are made
than asked for. Every proposal is in the study before it is scored: a process that dies leaves trials RUNNING, which the next one scores.

A generation is shared out in batches that shrink towards its end, and nobody waits for it: whoever finds all of it reserved begins the
next one from the results that are known, and says how many are not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from evonas.budget import Budget
from evonas.errors import UsageError
from evonas.explorers.base import Explorer
from evonas.reading import Reading, read
from evonas.sampling import SMALL_SPACE
from evonas.space import Population, SearchSpace
from evonas.storage import patiently
from evonas.study import REPEATS, History, annotate, attribute_name, distributions, rows_of, store_proposals
from evonas.turns import turn
from evonas.workers import WORKER, Worker

MOST_REJECTED_IN_A_ROW = 1000
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0


class Scored(NamedTuple):
    """Scores with what was measured beside them.

    Attributes:
        scores: n numbers, higher is better.
        beside: other numbers by name, n each; the search keeps them as attributes of the trials.
    """

    scores: npt.NDArray[np.float64]
    beside: Mapping[str, npt.NDArray[np.float64]]


class Fitness(Protocol):
    """Scores a population of shape (n, choices): n numbers, higher is better, all measured on the same images."""

    def __call__(self, population: Population, /) -> npt.NDArray[np.float64] | Scored: ...


@dataclass(frozen=True)
class SearchResult:
    """What a search ends with.

    Attributes:
        history: every trial of the study.
        evaluations: architectures scored, in this run and before, by all workers.
        rejected: proposals that cost no evaluation: infeasible, or scored already (an Optuna sampler makes those; ours do not).
        stopped: "evaluations" (all made), "exhausted" (nothing feasible is left), "none found" (nothing feasible and new was found, in a
            space too large to be sure that nothing is left) or "rejected" (a sampler that
            proposed nothing new and feasible a thousand times in a row).
    """

    history: History
    evaluations: int
    rejected: int
    stopped: str

    def __repr__(self) -> str:
        return f"SearchResult({self.evaluations} evaluations, {self.history.best_in_words()}, stopped: {self.stopped})"


@dataclass(frozen=True)
class _Claim:
    """What a worker has got in its turn.

    Attributes:
        trials: to score; none where there is nothing to do.
        known: what the study held at that moment.
        asked: how many were reserved.
        others: RUNNING trials that other workers hold.
        stopped: why there is nothing to do, once nobody works any more.
    """

    trials: Sequence[FrozenTrial]
    known: Reading
    asked: int
    others: Sequence[FrozenTrial]
    stopped: str = ""


def search(
    space: SearchSpace,
    fitness: Fitness,
    explorer: optuna.samplers.BaseSampler,
    *,
    evaluations: int,
    study: optuna.Study,
    budget: Budget | None = None,
    batch: int | None = None,
    on_progress: Callable[[int, float], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> SearchResult:
    """Search until `evaluations` architectures of the study are scored, by this process and those that share the study with it.

    It ends when all of them are told, those of other workers too; what a worker leaves that has ended is taken over.

    Args:
        space: what is searched.
        fitness: scores a population; a score that is NaN is told as a failed trial, which counts as an evaluation.
        explorer: an `Explorer`, or any Optuna sampler.
        evaluations: number of scored trials at which to stop, trials that the study holds already included.
        study: where trials are kept (`evonas.study.open_study`).
        budget: costs to record and bounds to keep.
        batch: most proposals asked and scored together; what is left of a generation, shared among the workers, for our explorers, 1 for
            Optuna's samplers.
        on_progress: called with (evaluations so far, best score so far) after every batch.
        on_note: called with a line for people: what was taken over or is waited for, and a storage that is lost or back.

    Raises:
        UsageError: the storage was lost and did not come back, or the study has objectives that are no costs of the budget.
    """
    budget = budget or Budget()
    note = on_note or (lambda text: None)
    study.sampler = explorer
    costs = _objectives(study, budget)
    rejected_in_a_row, pause, waited_for = 0, SHORTEST_PAUSE_S, ""
    with Worker(study) as worker:
        patiently(lambda: None if _is_done(read(study, space), evaluations) else worker.join(), note)
        while True:
            claim = patiently(lambda: _claim(study, space, budget, explorer, worker, evaluations, batch, note), note)
            if on_progress is not None:
                on_progress(claim.known.evaluations, claim.known.best)
            if claim.stopped:
                break
            if not claim.trials and not claim.asked:
                if pause >= LONGEST_PAUSE_S and (names := _names(claim.others)) != waited_for:
                    note(f"waiting for {len(claim.others)} networks that other workers score: {names}")
                    waited_for = names
                time.sleep(pause)
                pause = min(1.5 * pause, LONGEST_PAUSE_S)
                continue
            pause = SHORTEST_PAUSE_S
            scored = _score(space, fitness, study, costs, claim, note)
            worker.in_hand = ()
            rejected_in_a_row = 0 if scored else rejected_in_a_row + claim.asked
            if rejected_in_a_row >= MOST_REJECTED_IN_A_ROW:
                claim = replace(claim, stopped="rejected")
                break
    known = patiently(lambda: read(study, space), note)
    return SearchResult(known.history(), known.evaluations, known.finished - known.evaluations, claim.stopped)


def _claim(
    study: optuna.Study,
    space: SearchSpace,
    budget: Budget,
    explorer: optuna.samplers.BaseSampler,
    worker: Worker,
    evaluations: int,
    batch: int | None,
    note: Callable[[str], None],
) -> _Claim:
    """One turn: what this worker has open or takes over, else new trials. Done twice, it finds what it has done."""
    with turn(study):
        trials = study.get_trials(deepcopy=False)
        known = read(study, space, trials)
        running = [trials[number] for number in known.unfinished if trials[number].state == TrialState.RUNNING]
        mine = [trial for trial in running if trial.user_attrs.get(WORKER) == worker.name]
        mine = mine or _take_over(study, space, worker, running, note)
        taken = {trial.number for trial in mine}
        others = [trial for trial in running if trial.number not in taken and WORKER in trial.user_attrs]
        if mine:
            worker.take(mine)
            return _Claim(mine, known, 0, others)
        left = evaluations - known.evaluations - len(others)
        if left <= 0:
            return _Claim([], known, 0, others, "" if others else "evaluations")
        if isinstance(explorer, Explorer):
            mine = _reserve(study, space, budget, explorer, worker, min(left, batch or left), trials, others, note)
            asked = len(mine)
            known.update(study.get_trials(deepcopy=False))
        else:
            asked = min(left, batch or 1)
            _ask(study, space, budget, asked, worker)
            trials = study.get_trials(deepcopy=False)
            known.update(trials)
            running = [trials[number] for number in known.unfinished if trials[number].state == TrialState.RUNNING]
            mine = [trial for trial in running if trial.user_attrs.get(WORKER) == worker.name]
        if not asked:
            ended = "exhausted" if space.count() <= SMALL_SPACE else "none found"
            return _Claim([], known, 0, others, "" if others else ended)
        worker.take(mine)
        return _Claim(mine, known, asked, others)


def _take_over(
    study: optuna.Study, space: SearchSpace, worker: Worker, running: Sequence[FrozenTrial], note: Callable[[str], None]
) -> list[FrozenTrial]:
    """The trials that ended workers have left, from now on this worker's; what nobody could score is told as failed."""
    kept = []
    for trial in worker.abandoned(running):
        try:
            if WORKER not in trial.user_attrs or not all(name in trial.params for name in space.names):
                study.tell(trial.number, state=TrialState.FAIL)
                continue
            study._storage.set_trial_user_attr(trial._trial_id, WORKER, worker.name)
        except UpdateFinishedTrialError:  # its worker was only slow
            continue
        kept.append(trial)
    if kept:
        note(f"taking over {len(kept)} networks of workers that have ended: {_names(kept)}")
    return kept


def _reserve(
    study: optuna.Study,
    space: SearchSpace,
    budget: Budget,
    explorer: Explorer,
    worker: Worker,
    most: int,
    known: Sequence[FrozenTrial],
    others: Sequence[FrozenTrial],
    note: Callable[[str], None],
) -> list[FrozenTrial]:
    """New trials: this worker's share of what is left of the generation; none where the space is exhausted."""
    number = len(known)
    first = explorer.agreement(study, number, known)
    rows = explorer.rows(study, number, most, known)
    rows = rows[: math.ceil(len(rows) / worker.living())] if len(rows) > 1 else rows
    if first and others:
        note(f"generation from trial {number}: without {len(others)} results that other workers still owe")
        first = {**first, "evonas:lacks": [trial.number for trial in others]}
    notes = [explorer.notes(number + k) for k in range(len(rows))]
    return store_proposals(study, space, budget, rows, number, worker.name, notes, first) if len(rows) else []


def _ask(study: optuna.Study, space: SearchSpace, budget: Budget, count: int, worker: Worker) -> None:
    """Ask an Optuna sampler; what breaks the budget is told PRUNED at once, with its constraints (of FAIL, TPE learns nothing)."""
    for _ in range(count):
        trial = study.ask(dict(distributions(space)))
        row = space.from_names(trial.params)
        violations = annotate(study, trial._trial_id, space, budget, row)
        if (violations <= 0).all() and space.contains(np.array([row]))[0]:
            trial.set_user_attr(WORKER, worker.name)
        else:
            study.tell(trial, state=TrialState.PRUNED)


def _score(
    space: SearchSpace, fitness: Fitness, study: optuna.Study, costs: Sequence[str], claim: _Claim, note: Callable[[str], None]
) -> int:
    """Score and tell the trials of a claim. Returns how many were scored.

    An architecture that an earlier trial holds already is not scored again: it is told that trial's score, or PRUNED where
    there is none.
    """
    if not claim.trials:
        return 0
    new: list[FrozenTrial] = []
    for trial, key in zip(claim.trials, space.keys(rows_of(space, claim.trials)), strict=True):
        number = claim.known.first[key]
        if number == trial.number:
            new.append(trial)
        else:
            patiently(partial(_tell, study, costs, trial, claim.known.score(number), TrialState.PRUNED, {REPEATS: number}), note)
    if new:
        found = fitness(space.canonical(rows_of(space, new)))
        found = found if isinstance(found, Scored) else Scored(found, {})
        scores = np.asarray(found.scores, dtype=np.float64)
        if scores.shape != (len(new),):
            raise UsageError(
                f"The fitness returned shape {scores.shape} for {len(new)} architectures; expected a number for each. What else it knows "
                f"goes beside (evonas.search.Scored), and costs into the budget."
            )
        for k, (trial, score) in enumerate(zip(new, scores.tolist(), strict=True)):
            beside = {name: float(values[k]) for name, values in found.beside.items()}
            patiently(partial(_tell, study, costs, trial, score, TrialState.FAIL, beside), note)
    return len(new)


def _objectives(study: optuna.Study, budget: Budget) -> list[str]:
    """The attributes of trials that the study minimises beside the score, as `open_study(costs=...)` named them.

    Raises:
        UsageError: the study has other objectives.
    """
    known = [attribute_name(name, cost.unit) for name, cost in budget.costs.items()]
    names = (study.metric_names or [""] * len(study.directions))[1:]
    if wrong := [name for name in names if name not in known]:
        raise UsageError(
            f"The study {study.study_name!r} has the objective {wrong[0]!r} beside the score; expected costs that the budget knows "
            f"({', '.join(known) or 'none'}), as open_study(..., costs=[...]) makes it."
        )
    return names


def _tell(
    study: optuna.Study, costs: Sequence[str], trial: FrozenTrial, score: float, otherwise: TrialState, attributes: Mapping[str, float]
) -> None:
    """Tell a trial its score and its costs that are objectives, or another state where the score is no number.

    A trial that somebody else has told stays as it is.
    """
    storage = study._storage
    state, values = (TrialState.COMPLETE, [score, *(trial.user_attrs[name] for name in costs)]) if np.isfinite(score) else (otherwise, None)
    try:
        for name, value in attributes.items():
            storage.set_trial_user_attr(trial._trial_id, name, value)
        if isinstance(study.sampler, Explorer):
            storage.set_trial_state_values(trial._trial_id, state, values)
        else:  # Optuna's samplers are told as well
            study.tell(trial.number, values, state=state, skip_if_finished=True)
    except UpdateFinishedTrialError:
        pass


def _names(trials: Sequence[FrozenTrial]) -> str:
    """Whose trials these are."""
    return ", ".join(sorted({str(trial.user_attrs.get(WORKER)) for trial in trials}))


def _is_done(known: Reading, evaluations: int) -> bool:
    return known.evaluations >= evaluations and not known.unfinished
