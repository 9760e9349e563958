"""Explorer: an Optuna sampler whose proposals are a pure function of the trials so far.

A subclass writes one method, `propose(history, start, size)`. It may use only the results of trials numbered below `start`
and the generator `self.rng(start)`, so an explorer has no state that a killed process could lose: asked one by one, by 7 or
by 50, in one process or three in a row, it walks the same trajectory.
"""

from __future__ import annotations

import hashlib
import math
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from evonas.budget import Budget
from evonas.errors import UsageError
from evonas.reading import read
from evonas.sampling import Collector
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History, annotate, distributions

GENERATION = "evonas:generation"


class Explorer(optuna.samplers.BaseSampler, ABC):
    """Proposes architectures that are in the space, keep the budget and were never proposed before.

    Works in `evonas.search.search` (whole batches) and, as any sampler, in plain `study.optimize`:

        space, budget = ...
        study = optuna.create_study(direction="maximize", sampler=EvolutionExplorer(space, budget, seed=0))
        study.optimize(lambda trial: accuracy(suggest(trial, space)), n_trials=1000)

    Args:
        space: what is explored; proposals are canonical rows of it.
        budget: bounds that every proposal keeps.
        seed: seeds every generation together with its number.
        generation_size: trials that are proposed together, from the results of all earlier ones.
        first: architectures to try before anything else, in this order: published ones, those of another run, hand-made ones. Those that
            break the budget are left out, with a warning.

    Raises:
        UsageError: an architecture of `first` that is not in the space, or a setting that makes no sense.
    """

    keeps_budget = True  # an explorer that walks through dearer networks proposes those as well; what it recommends keeps the budget

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        seed: int = 0,
        generation_size: int = 50,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        self.space = space
        self.budget = budget or Budget()
        self.seed = seed
        self.generation_size = generation_size
        require(type(self), at_least_one={"generation_size": generation_size})
        self.first = self._feasible(space.population(list(first)))
        self._proposed: tuple[object, Population] | None = None
        self._lock = threading.RLock()

    def try_first(self, population: Population) -> None:
        """Try these as well before anything else, after those of `first`; before a search begins. What breaks the budget is left out.

        Args:
            population: architectures of the space, shape (n, choices).
        """
        self.first = self._feasible(np.concatenate([self.first, self.space.population(list(population))]))

    @abstractmethod
    def propose(self, history: History, start: int, size: int) -> Population:
        """The ordered proposals for trials start, start + 1, ...: shape (at most size, choices).

        Args:
            history: trials so far; those numbered `start` or above must not matter.
            start: number of the first trial of the generation.
            size: architectures wanted. Fewer rows mean that nothing else in the space is feasible and new.
        """

    def recommend(self, history: History) -> npt.NDArray[np.int64]:
        """Positions in `history` of the scored trials, the one to deliver first. By score, unless the explorer knows better."""
        return history.scored

    def unfinished(self, history: History) -> str:
        """What is to be said of a search that ended before it came where it was going; nothing, unless the explorer goes somewhere.

        Args:
            history: all trials of the study.
        """
        return ""

    def attributes(self, number: int) -> dict[str, Any]:
        """What trial `number` carries beside its costs, as user attributes; nothing unless the explorer has something to say.

        Numbers begin after the trials of `first`.
        """
        return {}

    def notes(self, number: int) -> dict[str, Any]:
        """The user attributes of trial `number` of a study: `attributes`, or that it is one of `first`."""
        return {"first": True} if number < len(self.first) else self.attributes(number - len(self.first))

    def generation(self, number: int) -> tuple[int, int]:
        """(start, size) of the generation that trial `number` belongs to, where numbers begin after the trials of `first`."""
        return number - number % self.generation_size, self.generation_size

    def rng(self, start: int) -> np.random.Generator:
        """The generator of the generation that begins at `start`."""
        return np.random.default_rng([self.seed, start])

    def rows(self, study: optuna.Study, number: int, count: int, trials: Sequence[FrozenTrial] | None = None) -> Population:
        """Proposals for the trials `number` to at most `number + count - 1` of the same generation; none when exhausted.

        Args:
            study: what is explored so far.
            number, count: which.
            trials: those of the study, where they were read already.
        """
        ahead = len(self.first)
        if number < ahead:
            return self.first[number : number + count]
        start, size = self.generation(number - ahead)
        with self._lock:
            trials = study.get_trials(deepcopy=False) if trials is None else trials
            memo = (study.study_name, start, trials[0].datetime_start if trials else None)
            if self._proposed is None or self._proposed[0] != memo or not trials:
                rows = self._agreed(trials[start + ahead :])
                if rows is None:
                    history = read(study, self.space, trials).history(start + ahead).renumbered(-ahead)
                    rows = self.propose(history, start, size)
                self._proposed = (memo, rows)
            return self._proposed[1][number - ahead - start : number - ahead - start + count]

    def agreement(self, study: optuna.Study, number: int, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
        """System attributes of trial `number`: where it begins a generation, all of that, so that everybody who shares the study takes it.

        What is known when a generation begins differs from process to process; what it proposes may not.
        """
        ahead = len(self.first)
        if number < ahead or self.generation(number - ahead)[0] != number - ahead:
            return {}
        size = self.generation(number - ahead)[1]
        return {GENERATION: {"by": self._fingerprint(), "rows": self.rows(study, number, size, trials).tolist()}}

    def _agreed(self, generation: Sequence[FrozenTrial]) -> Population | None:
        """The rows of a generation as its first trial has them; None where there are none of an explorer like this one."""
        found = generation[0].system_attrs.get(GENERATION) if generation else None
        if found is None or found["by"] != self._fingerprint():
            return None
        return np.array(found["rows"], dtype=np.int64).reshape(-1, len(self.space))

    def _fingerprint(self) -> str:
        """What has to be the same for two explorers to propose the same."""
        told = (type(self).__qualname__, self.seed, self.generation_size, len(self.first), self.space.choices, self.space.allowed)
        if self.space.listed is not None:
            told = (*told, self.space.listed.tolist())  # type: ignore[assignment]
        return hashlib.sha256(repr((*told, str(self.budget))).encode()).hexdigest()[:16]

    def _feasible(self, population: Population) -> Population:
        """The rows that keep the budget, each once."""
        collector = Collector(self.space, self.budget, set())
        kept = collector.take(population, len(population))
        if left := len(set(self.space.keys(population))) - kept:
            warnings.warn(f"{left} of {len(population)} architectures to try first break the budget and are left out", stacklevel=4)
        return collector.population()

    # Optuna's side: the same rows as parameters of one trial at a time.

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All choices at once."""
        return dict(distributions(self.space))

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """The proposal for this trial by option names; nothing when the space is exhausted."""
        rows = self.rows(study, trial.number, 1)
        return dict(self.space.to_names(rows[0])) if len(rows) else {}

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """Reached when the space is exhausted (stops the study, prunes the trial) or for a parameter that is no choice of it."""
        if param_name not in self.space.names:
            raise UsageError(
                f"The objective asks for {param_name!r}, which is no choice of the space; expected one of: {', '.join(self.space.names)}."
            )
        study.stop()
        raise optuna.TrialPruned("nothing feasible and new is left in the space")

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Record costs and constraints, as `search` does."""
        if all(name in trial.params for name in self.space.names) and "constraints" not in trial.system_attrs:
            annotate(study, trial._trial_id, self.space, self.budget, self.space.from_names(trial.params))
            for name, value in self.notes(trial.number).items():
                study._storage.set_trial_user_attr(trial._trial_id, name, value)


def require(
    explorer: type, *, at_least_one: Mapping[str, int] | None = None, probability: Mapping[str, float | None] | None = None
) -> None:
    """Settings that make sense.

    Raises:
        UsageError: a number that is not a whole one of at least 1, or a probability outside of [0, 1]; a probability may be None.
    """
    for name, value in (at_least_one or {}).items():
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise UsageError(f"{explorer.__name__} got {name}={value!r}; expected a whole number of at least 1.")
    for name, chance in (probability or {}).items():
        if chance is not None and not (math.isfinite(chance) and 0 <= chance <= 1):
            raise UsageError(f"{explorer.__name__} got {name}={chance!r}; expected a share between 0 and 1.")
