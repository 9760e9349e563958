"""Finalists: the best few of a search and of what one would pick by hand train a little on their own; the best gets the full training.

What a supernet ranks first is rarely the best network of a budget, and mostly among the first few. Successive halving (Jamieson and
Talwalkar, 2016, arXiv 1502.07943) finds out which: k finalists train 1/2k of a full training each; the better half go
on for twice as much; the best is the winner. Together that costs one full training more. They are judged by the likelihood of the labels
of the search images, which a few epochs show better than accuracy; the test images stay unseen.

Half of the finalists are the largest of the networks made by hand, so that what is delivered is not behind them where a search knows
little: on a few thousand images a supernet does not tell the networks of a budget apart, and short trainings do.

Departure: halving usually stops one long training at its rungs, and so does Optuna's pruner. Here every rung is a training with a whole
schedule, at whose end the learning rate is 0: networks that were stopped at the peak of a long schedule were ranked no better than by
chance, those at the end of a short one were. And they begin as the full training does: where that begins with new weights, short trainings
with inherited ones say less (docs/evidence/instead.md).

Every finalist is a trial of the study `finalists`, and every judgement an intermediate value of it, so that a run that is killed knows what
it has judged, and workers that share a study decide alike.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from torch import nn

from evonas import Explorer, SearchResult
from evonas.budget import Budget
from evonas.files import read_json, write_json
from evonas.space import Architecture, Population, SearchSpace
from evonas.storage import patiently
from evonas.study import agree, agreed, store_proposals
from evonas.turns import turn
from recipes.runner.delivery import first_within
from recipes.runner.final_training import FinalTraining
from recipes.runner.progress import say
from recipes.runner.run_folder import RunFolder
from supernet.data import ImageData, Part
from supernet.evaluation import accuracy_and_likelihood

APART = 0.25  # of the choices, in which finalists differ at least
FINALISTS, WINNER = "finalists", "winner"


def rungs(epochs: int, finalists: int) -> list[tuple[int, int]]:
    """(epochs that each of those that are left trains, how many of them go on), one rung after another.

    Args:
        epochs: of a full training, and at most of all rungs together.
        finalists: that begin; as many of them as can train an epoch take part.
    """
    count = min(finalists, epochs // 2)
    if count <= 1:
        return []
    if count == 2:
        return [(epochs // 2, 1)]
    half = -(-count // 2)
    return [(epochs // (2 * count), half), (epochs // (2 * half), 1)]


class Halving(optuna.pruners.BasePruner):
    """Synchronous successive halving: asked when all that are left have reported an epoch, it prunes all but the best.

    Optuna's own decides by whoever came before.

    Args:
        keep: how many go on, by epoch.
    """

    def __init__(self, keep: Mapping[int, int]) -> None:
        self._keep = keep

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether a trial is not among the best of those that reported its last epoch; of equal ones the first is."""
        step = trial.last_step
        if step is None or step not in self._keep:
            return False
        found = study.get_trials(deepcopy=False)
        reported = [(-other.intermediate_values[step], other.number) for other in found if step in other.intermediate_values]
        return (-trial.intermediate_values[step], trial.number) not in sorted(reported)[: self._keep[step]]


def choose(
    run: RunFolder,
    explorer: Explorer,
    found: SearchResult,
    study: optuna.Study,
    measure: Callable[[Architecture], dict[str, float]],
    by_hand: Population,
    *,
    wanted: int,
) -> dict[str, Any]:
    """The finalists, into `finalists.json`: what the explorer recommends and what was made by hand, in turn.

    All keep every bound when measured whole. What the first worker of a search chose are the finalists of all.

    Args:
        study: of the search.
        measure: costs of a finished network that replace the tables'.
        by_hand: networks that were searched as well, those to prefer first; half of the finalists at most.
        wanted: how many.
    """
    path = run / "finalists.json"
    if not path.exists():
        apart = math.ceil(len(explorer.space) * APART)
        accuracies = {trial.number: trial.user_attrs.get("accuracy") for trial in patiently(lambda: study.get_trials(deepcopy=False), say)}
        chosen = patiently(lambda: agreed(study, FINALISTS), say)
        if chosen is None:
            chosen = first_within(explorer, found, measure, wanted=wanted, apart=apart, accuracy=accuracies.get, by_hand=by_hand)
            chosen = patiently(lambda: agree(study, FINALISTS, chosen), say)
        write_json(path, chosen)
    chosen = read_json(path)
    count = len(chosen["finalists"])
    say(
        f"{count} finalist{'s' if count > 1 else ''}, the first with inherited accuracy {100 * chosen['finalists'][0]['inherited']:.1f} %; "
        f"{len(chosen['tried'])} tried"
    )
    return dict(chosen)


def decide(
    run: RunFolder,
    training: FinalTraining,
    chosen: Mapping[str, Any],
    explorer: Explorer,
    data: ImageData,
    studies: Sequence[optuna.Study],
    device: torch.device,
    *,
    shared: bool,
) -> dict[str, Any]:
    """The winner, into `winner.json`: the finalist that short trainings show to be the best.

    Args:
        chosen: what `choose` gave.
        studies: of the search, whose first worker decides for all, and of the finalists, the last.
        shared: whether other workers may train the same finalists: each begins with another one.
    """
    path, finalists = run / "winner.json", chosen["finalists"]
    if not path.exists():
        position = patiently(lambda: agreed(studies[0], WINNER), say)
        if position is None:
            ahead = os.getpid() if shared else 0
            position = race(run.path, training, finalists, data.search, studies[-1], explorer.space, explorer.budget, device, ahead)
            position = patiently(lambda: agree(studies[0], WINNER, position), say)
        for left in run.path.glob("finalist[0-9]*"):
            left.unlink()
        write_json(path, {**finalists[position], "position": position, "tried": chosen["tried"]})
    winner: dict[str, Any] = read_json(path)
    say(f"winner: finalist {winner['position'] + 1}, inherited accuracy {100 * winner['inherited']:.1f} %")
    return winner


def race(
    folder: Path,
    training: FinalTraining,
    finalists: Sequence[Mapping[str, Any]],
    search: Part,
    study: optuna.Study,
    space: SearchSpace,
    budget: Budget,
    device: torch.device,
    ahead: int = 0,
) -> int:
    """Which of the finalists is the best: its position.

    Args:
        folder: for checkpoints, `finalist0-0.pt` and so on.
        training: whose full one the rungs are a share of.
        finalists: entries with an `architecture` by names, best first.
        search: the images that they are judged on.
        study: keeps every judgement, and has the last word where it knows one.
        space, budget: of the search, for the trials.
        device: to judge on.
        ahead: which of those that are left is trained first, counted around; what others have judged by then is not trained here.
    """
    rows = np.array([space.from_names(entry["architecture"]) for entry in finalists], dtype=np.int64)
    plan = rungs(int(training.settings["epochs"]), len(rows))
    if not plan:
        return 0
    rows = rows[: int(training.settings["epochs"]) // 2]
    spent = np.cumsum([epochs for epochs, _ in plan]).tolist()
    trials = patiently(lambda: _entered(study, space, budget, rows), say)
    study.pruner = Halving(dict(zip(spent, (kept for _, kept in plan), strict=True)))
    alive = list(range(len(rows)))
    for rung, step in enumerate(spent):
        for i in np.roll(alive, -ahead).tolist():
            if step not in _read(study, trials[i]).intermediate_values:
                epochs = [epochs for epochs, _ in plan[: rung + 1]]
                network = training.short(folder, f"finalist{i}", f"finalist {i + 1} of {len(rows)}", tuple(rows[i].tolist()), epochs)
                _report(study, trials[i], step, judged(network, search, device))
        alive = [i for i in alive if not _pruned(study, trials[i])]
    return alive[0]


def judged(network: nn.Module, search: Part, device: torch.device) -> dict[str, float]:
    """What a network is judged by, the likelihood of the labels, and the accuracy beside it."""
    accuracy, likelihood = accuracy_and_likelihood(network, search, device)
    return {"accuracy": accuracy, "likelihood": likelihood}


def crown(study: optuna.Study, position: int, epochs: int, found: Mapping[str, float]) -> None:
    """The winner is trained in full: its trial is complete. Nothing happens where that is known, or where there were no finalists.

    Args:
        study: of the finalists.
        position: of the winner among them.
        epochs: of the full training, counted after those of the rungs.
        found: what the winner is judged by.
    """
    trials = study.get_trials(deepcopy=False)
    if position < len(trials) and not trials[position].state.is_finished():
        step = epochs + sum(each for each, _ in rungs(epochs, len(trials)))  # the same again after a kill in between
        _report(study, trials[position]._trial_id, step, found)
        study._storage.set_trial_state_values(trials[position]._trial_id, TrialState.COMPLETE, [found["likelihood"]])


def told(study: optuna.Study, space: SearchSpace, finalists: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """The finalists and what became of them, for the report: architecture, likelihoods by epochs trained, accuracies, whether it won.

    Args:
        study: of the finalists.
        space: that was searched.
        finalists: what `choose` gave: which of them were made by hand.
    """
    return [
        {
            "architecture": {name: trial.params[name] for name in space.names},
            "by_hand": trial.number < len(finalists) and finalists[trial.number]["by_hand"],
            "likelihood": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
            "accuracy": {str(step): trial.user_attrs[_accuracy(step)] for step in sorted(trial.intermediate_values)},
            "won": trial.state == TrialState.COMPLETE,
        }
        for trial in study.get_trials(deepcopy=False)
    ]


def _entered(study: optuna.Study, space: SearchSpace, budget: Budget, rows: np.ndarray) -> list[int]:
    """The identifiers of the finalists' trials, which the first that comes makes."""
    with turn(study):
        known = study.get_trials(deepcopy=False)
        missing = rows[len(known) :]  # whoever began was killed
        if len(missing):
            store_proposals(study, space, budget, missing, len(known), "", [{}] * len(missing), {})
        return [trial._trial_id for trial in study.get_trials(deepcopy=False)]


def _read(study: optuna.Study, trial: int) -> FrozenTrial:
    return patiently(lambda: study._storage.get_trial(trial), say)


def _report(study: optuna.Study, trial: int, epoch: int, found: Mapping[str, float]) -> None:
    """Keep a judgement, unless somebody else has."""

    def write() -> None:
        with turn(study):
            if epoch not in study._storage.get_trial(trial).intermediate_values:
                study._storage.set_trial_user_attr(trial, _accuracy(epoch), found["accuracy"])
                study._storage.set_trial_intermediate_value(trial, epoch, found["likelihood"])

    patiently(write, say)


def _pruned(study: optuna.Study, trial: int) -> bool:
    """Whether a finalist is out; it is told so."""

    def ask() -> bool:
        with turn(study):
            known = study._storage.get_trial(trial)
            if known.state.is_finished():
                return known.state == TrialState.PRUNED
            out = study.pruner.prune(study, known)
            if out:
                study._storage.set_trial_state_values(trial, TrialState.PRUNED, [known.intermediate_values[max(known.intermediate_values)]])
            return out

    return patiently(ask, say)


def _accuracy(epoch: int) -> str:
    return f"accuracy_{epoch}"
