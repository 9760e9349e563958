"""One search's memory: an Optuna study that stores every proposal whole, and the `History` view that explorers read.

Choices are categorical parameters (of the un-narrowed space, because Optuna refuses distributions that change), costs are
user attributes named with their unit (`macs`, `latency_ms`), and bounds are constraints: relative violations, at most 0
where kept. They are stored under the system attribute `constraints`, which every Optuna sampler and the dashboard read;
the per-name constraints of Optuna 5 are not shown by optuna-dashboard 0.21.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from evonas.budget import Budget
from evonas.errors import UsageError, shortened
from evonas.space import Architecture, Choice, Population, SearchSpace
from evonas.storage import cannot_open
from evonas.storage import open_storage as open_storage
from evonas.storage import repair_journal as repair_journal
from evonas.turns import turn
from evonas.workers import WORKER

REPEATS = "repeats_trial"
SEARCH = "search"
AGREED = "evonas:"
DIGITS = 6


@dataclass(frozen=True)
class History:
    """What an explorer may know: the trials of a study in order of their numbers.

    Attributes:
        space: the coordinates.
        numbers: trial numbers, ascending, shape (n,).
        population: canonical architectures, shape (n, choices).
        scores: fitness, shape (n,); NaN for a trial that is running, failed, infeasible or scored NaN.
    """

    space: SearchSpace
    numbers: npt.NDArray[np.int64]
    population: Population
    scores: npt.NDArray[np.float64]

    def __repr__(self) -> str:
        return f"History({len(self.numbers)} trials, {self.best_in_words()})"

    def best_in_words(self) -> str:
        """The best score, or that there is none."""
        return f"best score {np.nanmax(self.scores):.4g}" if np.isfinite(self.scores).any() else "nothing scored"

    @classmethod
    def of(cls, study: optuna.Study, space: SearchSpace, start: int | None = None) -> History:
        """The trials of `study` (those numbered below `start`) that carry every choice of the space and repeat no other."""
        return cls.of_trials(study.get_trials(deepcopy=False)[:start], space)

    @classmethod
    def of_trials(cls, trials: Sequence[FrozenTrial], space: SearchSpace) -> History:
        """As `of`, of trials that were read before."""
        index = [{option: i for i, option in enumerate(choice.options)} for choice in space.choices]
        names = space.names
        rows, numbers, scores = [], [], []
        for trial in trials:
            params = trial.params
            if REPEATS not in trial.user_attrs and all(name in params for name in names):
                rows.append([options[params[name]] for name, options in zip(names, index, strict=True)])
                numbers.append(trial.number)
                score = score_of(trial)
                scores.append(np.nan if score is None else score)
        population = space.canonical(np.array(rows, dtype=np.int64).reshape(-1, len(space)))
        return cls(space, np.array(numbers, dtype=np.int64), population, np.array(scores, dtype=np.float64))

    @classmethod
    def empty(cls, space: SearchSpace) -> History:
        """No trial yet."""
        return cls(space, np.zeros(0, np.int64), np.zeros((0, len(space)), np.int64), np.zeros(0))

    def __len__(self) -> int:
        return len(self.numbers)

    def before(self, start: int) -> History:
        """Only the trials numbered below `start`."""
        keep = self.numbers < start
        return self if keep.all() else History(self.space, self.numbers[keep], self.population[keep], self.scores[keep])

    def renumbered(self, offset: int) -> History:
        """The same trials with other numbers."""
        if offset == 0:
            return self
        other = History(self.space, self.numbers + offset, self.population, self.scores)
        other.__dict__.update({name: self.__dict__[name] for name in ("keys", "scored") if name in self.__dict__})
        return other

    @cached_property
    def keys(self) -> set[Architecture]:
        """Every architecture that was proposed, whatever became of it."""
        return set(map(tuple, self.population.tolist()))

    @cached_property
    def scored(self) -> npt.NDArray[np.int64]:
        """Positions of the trials with a score, best first; equal scores in order of the trial numbers."""
        order = np.argsort(-self.scores, kind="stable")
        return np.asarray(order[np.isfinite(self.scores[order])])


def score_of(trial: FrozenTrial) -> float | None:
    """The score of a trial that has one: its value, or the first where the study has costs as objectives too."""
    return trial.values[0] if trial.state == TrialState.COMPLETE and trial.values is not None else None


def distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """Optuna's view of the space, un-narrowed."""
    return {choice.name: CategoricalDistribution(choice.options) for choice in space.choices}


def space_of(study: optuna.Study) -> SearchSpace:
    """The un-narrowed space whose architectures a study holds.

    Raises:
        UsageError: the study has no trial yet.
    """
    for trial in study.get_trials(deepcopy=False):
        found = {name: d.choices for name, d in trial.distributions.items() if isinstance(d, CategoricalDistribution)}
        return SearchSpace(tuple(Choice(name, tuple(map(str, options))) for name, options in found.items()))
    raise UsageError(f"The study {study.study_name!r} holds no trial yet; run its search first.")


def suggest(trial: optuna.Trial, space: SearchSpace) -> Architecture:
    """The architecture of a trial, for objectives that are written for plain `study.optimize`."""
    return space.from_names({choice.name: trial.suggest_categorical(choice.name, choice.options) for choice in space.choices})


def open_study(
    storage: str | Path | optuna.storages.BaseStorage | None, name: str, *, trusted: bool = False, costs: Sequence[str] = ()
) -> optuna.Study:
    """Create the study `name`, or go on with it.

    Args:
        storage: a path (an Optuna journal file), any storage URL that Optuna takes, a storage, or None for memory only.
        name: name of the study inside its storage.
        trusted: see `evonas.storage.open_storage`.
        costs: attributes of trials (`latency_ms`) that a new study minimises beside the score: the dashboard shows the front then.

    Raises:
        UsageError: the storage cannot be opened.
    """
    try:
        opened = open_storage(storage, trusted=trusted)
        if opened is not None and name in optuna.get_all_study_names(opened):
            return optuna.load_study(study_name=name, storage=opened)
        directions = [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * len(costs)]
        study = optuna.create_study(study_name=name, storage=opened, directions=directions, load_if_exists=True)
        if study.metric_names is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(["fitness", *costs])
        return study
    except UsageError:
        raise
    except Exception as error:
        raise cannot_open(str(storage), error) from error


def attribute_name(cost: str, unit: str) -> str:
    """The user attribute under which trials carry a cost: `latency_ms`, so that the dashboard says what a number means."""
    return f"{cost}_{unit}" if unit else cost


def _attributes(budget: Budget, population: Population, violations: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """The user attributes of each row: every cost, named with its unit, and what that means for the budget.

    The dashboard uses constraints but does not print them, so `budget` says it in words.
    """
    values = budget.values(population)
    names = {name: attribute_name(name, cost.unit) for name, cost in budget.costs.items()}
    rows: list[dict[str, Any]] = [
        {names[name]: _in_few_digits(column[row]) for name, column in values.items()} for row in range(len(population))
    ]
    if budget.bounds:
        for row, verdict in zip(rows, budget.verdicts(violations), strict=True):
            row["budget"] = verdict
    return rows


def _in_few_digits(value: float) -> float:
    """Counts as they are, other numbers in six digits: people read them. Bounds are held against all digits."""
    return float(value) if float(value).is_integer() else float(f"{value:.{DIGITS}g}")


def store_proposals(
    study: optuna.Study,
    space: SearchSpace,
    budget: Budget,
    population: Population,
    number: int,
    worker: str,
    more: Sequence[Mapping[str, Any]],
    first: Mapping[str, Any],
) -> list[FrozenTrial]:
    """Write each row as a RUNNING trial, whole and in a single write; returns them.

    Args:
        population: the rows, shape (n, choices).
        number: of the first trial. Called in turn (`evonas.turns`), so that it is known.
        worker: whose they are.
        more: further user attributes of each row.
        first: system attributes of the first row.
    """
    violations = budget.violations(population)
    options, stored = distributions(space), []
    for i, (row, costs) in enumerate(zip(population, _attributes(budget, population, violations), strict=True)):
        constraints = {"constraints": violations[i].tolist()} if budget.bounds else {}
        trial = FrozenTrial(  # create_trial looks for old kinds of distributions in each: as long as all the rest, with many choices
            number=number + i,
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=space.to_names(row),
            distributions=dict(options),
            user_attrs={**costs, **more[i], WORKER: worker},
            system_attrs={**constraints, **(first if i == 0 else {})},
            intermediate_values={},
        )
        trial._trial_id = study._storage.create_new_trial(study._study_id, template_trial=trial)
        stored.append(trial)
    return stored


def agree(study: optuna.Study, key: str, value: Any) -> Any:
    """What all processes that share a study take for `key`: the value of the first that came, as plain data."""
    with turn(study):
        known = study._storage.get_study_system_attrs(study._study_id)
        if AGREED + key not in known:
            study._storage.set_study_system_attr(study._study_id, AGREED + key, value)
            return value
        return known[AGREED + key]


def agreed(study: optuna.Study, key: str) -> Any:
    """What was agreed on for `key`; None where nothing was."""
    return study._storage.get_study_system_attrs(study._study_id).get(AGREED + key)


def join(study: optuna.Study, space: SearchSpace, search: Mapping[str, Any]) -> None:
    """Take part in a search that others may have begun: its study belongs to one search.

    Args:
        study: what is shared.
        space: of this search.
        search: what decides the results, by name, as plain data; kept as the study's user attribute `search`. It may be called again with
            more that is known by then.

    Raises:
        UsageError: the study belongs to another search; the first difference is named.
    """
    with turn(study):
        before = dict(study._storage.get_study_user_attrs(study._study_id).get(SEARCH, {}))
        for name, value in search.items():
            if name in before and before[name] != value:
                raise UsageError(
                    f"The study {study.study_name!r} belongs to another search: {name} is {shortened(repr(before[name]))}, not "
                    f"{shortened(repr(value))}. Use its settings to join it, or another name: --study NAME."
                )
        if study.get_trials(deepcopy=False) and (found := space_of(study).choices) != space.choices:
            raise UsageError(
                f"The study {study.study_name!r} belongs to another search: it has {len(found)} choices "
                f"({shortened(', '.join(choice.name for choice in found))}), this space {len(space)}. Use another name: --study NAME."
            )
        if any(name not in before for name in search):
            study._storage.set_study_user_attr(study._study_id, SEARCH, {**before, **search})


def record(
    study: optuna.Study,
    space: SearchSpace,
    architecture: Architecture | npt.NDArray[np.int64],
    score: float,
    *,
    budget: Budget | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> int:
    """Write one finished trial, whole and in a single write: for systems whose search is the training, one trial an epoch, say.

    Args:
        study: where it is kept.
        space: of the architecture, un-narrowed or narrowed.
        architecture: option indices, shape (choices,).
        score: higher is better; NaN is told as a failed trial.
        budget: whose costs and constraints the trial carries.
        attributes: what else it carries, as plain data.

    Returns:
        The number of the trial.
    """
    budget = budget or Budget()
    row = space.canonical(np.array([tuple(architecture)], dtype=np.int64))
    violations = budget.violations(row)
    scored = bool(np.isfinite(score))
    trial = create_trial(
        state=TrialState.COMPLETE if scored else TrialState.FAIL,
        value=float(score) if scored else None,
        params=space.to_names(row[0]),
        distributions=dict(distributions(space)),
        user_attrs={**_attributes(budget, row, violations)[0], **(attributes or {})},
        system_attrs={"constraints": violations[0].tolist()} if budget.bounds else {},
    )
    return int(study._storage.get_trial(study._storage.create_new_trial(study._study_id, template_trial=trial)).number)


def annotate(study: optuna.Study, trial_id: int, space: SearchSpace, budget: Budget, row: Architecture) -> npt.NDArray[np.float64]:
    """Write costs and constraints onto a trial that Optuna made; returns the violations."""
    population = np.array([row], dtype=np.int64)
    violations = budget.violations(population)
    storage = study._storage
    for name, value in _attributes(budget, population, violations)[0].items():
        storage.set_trial_user_attr(trial_id, name, value)
    if budget.bounds:
        storage.set_trial_system_attr(trial_id, "constraints", violations[0].tolist())
    return np.asarray(violations[0])


def rows_of(space: SearchSpace, trials: Sequence[FrozenTrial]) -> Population:
    """The population of a list of trials, not canonicalised: shape (n, choices)."""
    return np.array([space.from_names(trial.params) for trial in trials], dtype=np.int64).reshape(-1, len(space))
