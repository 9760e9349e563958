"""A study read again and again: a trial that is finished is looked at once, however many follow.

A search reads its study before every batch. Reading all of it each time makes a search of n trials cost n squared, which is felt from a
few thousand on. What a finished trial holds does not change, so only those are looked at that were not finished the last time.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from evonas.space import Architecture, SearchSpace
from evonas.study import REPEATS, History, distributions, score_of

FIRST_ROOM = 64

_readings: weakref.WeakKeyDictionary[optuna.Study, dict[int, Reading]] = weakref.WeakKeyDictionary()  # by identity of the space


def read(study: optuna.Study, space: SearchSpace, trials: Sequence[FrozenTrial] | None = None) -> Reading:
    """What `study` holds now, as far as it concerns the space.

    Args:
        study: what is read.
        space: whose architectures it holds.
        trials: those of the study, where they were read already.
    """
    known = _readings.setdefault(study, {})
    reading = known[id(space)] = known.get(id(space)) or Reading(space)
    reading.update(study.get_trials(deepcopy=False) if trials is None else trials)
    return reading


class Reading:
    """The trials of one study, as arrays that grow.

    Args:
        space: trials that do not carry every choice of it are no part of a history.

    Attributes:
        unfinished: positions of the trials that are not finished, ascending.
        evaluations: finished trials that were scored, or failed, and repeat no other.
        finished: finished trials.
        best: highest score, NaN where there is none.
        first: for every architecture, the number of the first trial that carries it.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.unfinished: list[int] = []
        self.evaluations = self.finished = 0
        self.best = float("nan")
        self.first: dict[Architecture, int] = {}
        self._index = [{option: i for i, option in enumerate(choice.options)} for choice in space.choices]
        self._distributions = distributions(space)
        self._names = space.names
        self._shared = {option: option for choice in space.choices for option in choice.options}
        self._read = 0
        self._rows = np.zeros((FIRST_ROOM, len(space)), dtype=np.int64)
        self._scores = np.full(FIRST_ROOM, np.nan)
        self._kept = np.zeros(FIRST_ROOM, dtype=bool)
        self._lock = threading.Lock()

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Look at what has changed; `trials` are all of the study, in order of their numbers."""
        with self._lock:
            while len(self._kept) < len(trials):
                self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
                self._scores = np.concatenate([self._scores, np.full_like(self._scores, np.nan)])
                self._kept = np.concatenate([self._kept, np.zeros_like(self._kept)])
            known = len(trials)  # of a thread that read before another one, fewer than this has seen
            positions = [*(position for position in self.unfinished if position < known), *range(self._read, known)]
            later = [position for position in self.unfinished if position >= known]
            self.unfinished = [position for position in positions if not trials[position].state.is_finished()] + later
            self._read = max(self._read, known)
            self._add(positions, trials)
            for position in positions:
                if trials[position].state.is_finished():
                    self._close(position, trials[position])

    def score(self, number: int) -> float:
        """Of a trial; NaN for one that is running, failed, infeasible or scored NaN."""
        return float(self._scores[number])

    def history(self, stop: int | None = None) -> History:
        """The trials (those numbered below `stop`), as `History.of_trials` gives them."""
        with self._lock:
            whole = stop is None or stop >= self._read
            numbers = np.flatnonzero(self._kept[: self._read if whole else stop])
            history = History(self.space, numbers, self._rows[numbers], self._scores[numbers])
            if whole:
                history.__dict__["keys"] = set(self.first)  # in place of a look at every row
            return history

    def _add(self, positions: Sequence[int], trials: Sequence[FrozenTrial]) -> None:
        """The architectures of trials that have one by now."""
        new = []
        for position in positions:
            trial = trials[position]
            repeats = REPEATS in trial.user_attrs
            if not self._kept[position] and not repeats and all(name in trial.params for name in self._names):
                new.append(position)
                self._rows[position] = [options[trial.params[name]] for name, options in zip(self._names, self._index, strict=True)]
            self._kept[position] &= not repeats
        if new:
            self._rows[new] = self.space.canonical(self._rows[new])
            self._kept[new] = True
            for position, key in zip(new, map(tuple, self._rows[new].tolist()), strict=True):
                self.first[key] = min(position, self.first.get(key, position))

    def _close(self, position: int, trial: FrozenTrial) -> None:
        """A trial that is finished."""
        self.finished += 1
        self.evaluations += trial.state in (TrialState.COMPLETE, TrialState.FAIL) and REPEATS not in trial.user_attrs
        if (score := score_of(trial)) is not None:
            self._scores[position] = score
            self.best = max(score, self.best) if self.best == self.best else score
        if self._is_of_this_space(trial.distributions):  # a storage that reads them from a file makes them anew for every trial
            trial.distributions = dict(self._distributions)
            trial.params = {name: self._shared[trial.params[name]] for name in self._names}

    def _is_of_this_space(self, found: Mapping[str, BaseDistribution]) -> bool:
        """As `found == self._distributions`, in a tenth of the time: options are text here."""
        return len(found) == len(self._distributions) and all(
            isinstance(other := found.get(name), CategoricalDistribution) and other.choices == own.choices
            for name, own in self._distributions.items()
        )
