"""The contract of explorers as tests: run them over your own.

    import pytest
    from evonas.testing import EXPLORER_CHECKS

    @pytest.mark.parametrize("check", EXPLORER_CHECKS, ids=lambda check: check.__name__)
    def test_my_explorer(check):
        check(lambda space, budget, seed: MyExplorer(space, budget, seed=seed))

Every check takes a function (space, budget, seed) -> explorer and raises AssertionError where the contract is broken.
`tests/evonas/test_explorers.py` runs all of them over everything in `evonas.explorers.EXPLORERS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import optuna

from evonas.budget import Budget
from evonas.explorers import Explorer, Make
from evonas.search import search
from evonas.space import Choice, Population, SearchSpace
from evonas.study import History, open_study, suggest

TRIALS = 160


class TableCost:
    """A cost that adds one number a choice and option: for tests and examples.

    Args:
        table: shape (choices, options).
        unit: of the numbers.
    """

    def __init__(self, table: npt.NDArray[np.float64], unit: str = "") -> None:
        self.table = table
        self.unit = unit

    def __call__(self, population: Population) -> npt.NDArray[np.float64]:
        """The cost of every row."""
        return np.asarray(self.table[np.arange(len(self.table)), population].sum(axis=1))


class Oracle:
    """A predictor that knows the fitness; scikit-learn's `clone` copies it by its parameters."""

    def __init__(self, fitness: Callable[[Population], npt.NDArray[np.float64]]) -> None:
        self.fitness = fitness

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """As scikit-learn's estimators."""
        return {"fitness": self.fitness}

    def fit(self, X: Population, y: npt.NDArray[np.float64]) -> Oracle:
        """Nothing is left to learn."""
        return self

    def predict(self, X: Population) -> npt.NDArray[np.float64]:
        """The fitness itself."""
        return self.fitness(X)


def example(
    choices: int = 9, options: int = 5, upper: float = 0.45
) -> tuple[SearchSpace, Budget, Callable[[Population], npt.NDArray[np.float64]]]:
    """A space, a budget that part of it keeps, and a fitness with an interaction of neighbouring choices."""
    rng = np.random.default_rng(7)
    space = SearchSpace(tuple(Choice(f"block{i}.op", tuple("abcdefgh"[:options])) for i in range(choices)))
    weights, pairs = rng.normal(size=(choices, options)), rng.normal(size=(choices, options, options))
    budget = Budget({"macs": TableCost(rng.random((choices, options)))}, [f"macs={upper * choices}"])
    columns = np.arange(choices)

    def fitness(population: Population) -> npt.NDArray[np.float64]:
        single = weights[columns, population].sum(axis=1)
        return np.asarray(single + 0.5 * pairs[columns[1:], population[:, :-1], population[:, 1:]].sum(axis=1))

    return space, budget, fitness


def in_space_feasible_and_new(make: Make) -> None:
    """Every proposal is a canonical row of the space and was never proposed before, and keeps the budget, unless the explorer walks to it.

    What one that walks to the budget recommends keeps it.
    """
    space, budget, fitness = example()
    explorer = make(space, budget, 1)
    population = _walk(explorer, space, budget, fitness)
    assert len(population) == TRIALS, f"{len(population)} trials instead of {TRIALS}"
    assert space.contains(population).all(), "a proposal lies outside of the space"
    if explorer.keeps_budget:
        assert budget.feasible(population).all(), "a proposal breaks the budget"
    history = History(space, np.arange(TRIALS), population, fitness(population))
    recommended = explorer.recommend(history)
    assert len(recommended), "nothing is recommended"
    assert budget.feasible(population[recommended]).all(), "what is recommended breaks the budget"
    assert len(set(space.keys(population))) == TRIALS, "an architecture was proposed twice"


def same_seed_same_trajectory(make: Make) -> None:
    """The seed decides the trajectory, and another seed gives another one."""
    space, budget, fitness = example()
    first, again, other = (_walk(make(space, budget, seed), space, budget, fitness) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again, "the same seed gave two trajectories")
    assert not np.array_equal(first, other), "two seeds gave one trajectory"


def any_batch_same_trajectory(make: Make) -> None:
    """Asked for 1, 7 or 50 trials at a time, an explorer proposes the same."""
    space, budget, fitness = example()
    one = _walk(make(space, budget, 2), space, budget, fitness, batch=1)
    for batch in (7, 50):
        other = _walk(make(space, budget, 2), space, budget, fitness, batch=batch)
        np.testing.assert_array_equal(one, other, f"batches of 1 and of {batch} gave two trajectories")


def resumed_equals_undisturbed(make: Make) -> None:
    """Stopped after any number of trials and continued by a new explorer, a search ends with the same trials."""
    space, budget, fitness = example()
    undisturbed = _walk(make(space, budget, 5), space, budget, fitness)
    for stop in (1, 49, 50, 73, 131):
        study = open_study(None, "resumed")
        for evaluations in (stop, TRIALS):
            search(space, fitness, make(space, budget, 5), evaluations=evaluations, study=study, budget=budget)
        resumed = History.of(study, space).population
        np.testing.assert_array_equal(undisturbed, resumed, f"resuming after {stop} trials changed the trajectory")


def plain_optuna_same_trajectory(make: Make) -> None:
    """As the sampler of a plain `study.optimize` an explorer proposes what it proposes in `search`."""
    space, budget, fitness = example()
    explorer = make(space, budget, 6)
    study = optuna.create_study(direction="maximize", sampler=explorer)
    study.optimize(lambda trial: float(fitness(np.array([suggest(trial, space)]))[0]), n_trials=60)
    ours = _walk(make(space, budget, 6), space, budget, fitness, evaluations=60)
    np.testing.assert_array_equal(History.of(study, space).population, ours, "study.optimize gave another trajectory than search")
    kept = [max(trial.system_attrs["constraints"]) <= 0 for trial in study.trials]
    assert all(kept) or not explorer.keeps_budget, "constraints were not recorded"


def second_instance_disturbs_nothing(make: Make) -> None:
    """Another explorer at work in between, and the global generators, neither change a trajectory nor are changed."""
    space, budget, fitness = example()
    alone = _walk(make(space, budget, 8), space, budget, fitness)
    study, explorer, other = open_study(None, "beside"), make(space, budget, 8), make(space, budget, 9)
    for evaluations in range(20, TRIALS + 1, 20):
        search(space, fitness, explorer, evaluations=evaluations, study=study, budget=budget)
        random.seed(evaluations)
        state = _global_generators()
        other.propose(History.of(study, space), len(study.trials), 20)
        assert state == _global_generators(), "propose changed a global generator"
    np.testing.assert_array_equal(alone, History.of(study, space).population, "a second explorer changed the trajectory")


def only_earlier_trials_matter(make: Make) -> None:
    """What `propose(history, start, size)` gives does not depend on trials numbered `start` or above."""
    space, budget, fitness = example()
    explorer = make(space, budget, 10)
    study = open_study(None, "earlier")
    search(space, fitness, explorer, evaluations=TRIALS, study=study, budget=budget)
    history = History.of(study, space)
    for start in (0, 50, 100):
        at, size = explorer.generation(start)
        later = History(space, history.numbers, history.population, np.where(history.numbers < at, history.scores, 99.0))
        early, all_of_it = (make(space, budget, 10).propose(h, at, size) for h in (history.before(at), later))
        np.testing.assert_array_equal(early, all_of_it, f"trials after {at} changed the proposals for it")


def bad_scores_survive(make: Make) -> None:
    """NaN scores and trials that failed leave an explorer working, and its proposals new."""
    space, budget, fitness = example()

    def broken(population: Population) -> npt.NDArray[np.float64]:
        return np.where(population[:, 0] == 0, np.nan, np.where(population[:, 1] == 0, -np.inf, fitness(population)))

    population = _walk(make(space, budget, 11), space, budget, broken)
    assert len(set(space.keys(population))) == TRIALS, "an architecture whose score failed was proposed again"
    nothing = _walk(make(space, budget, 11), space, budget, lambda p: np.full(len(p), np.nan))
    assert len(nothing) == TRIALS, "without any score the explorer stopped"


def exhausted_space_ends(make: Make) -> None:
    """Every feasible architecture of a small space is proposed once; then the rows end, and so does `study.optimize`."""
    space, budget, fitness = example(choices=4, options=3, upper=0.4)
    everything = space.enumerate()
    feasible = set(space.keys(everything[budget.feasible(everything)]))
    study = open_study(None, "exhausted")
    explorer = make(space, budget, 12)
    result = search(space, fitness, explorer, evaluations=1000, study=study, budget=budget)
    assert result.stopped == "exhausted", f"the search stopped for {result.stopped!r}"
    proposed = set(space.keys(result.history.population))
    assert feasible <= proposed, "not every feasible architecture was proposed"
    assert proposed == feasible or not explorer.keeps_budget, "an architecture that breaks the budget was proposed"
    plain = optuna.create_study(direction="maximize", sampler=make(space, budget, 12))
    plain.optimize(lambda trial: float(fitness(np.array([suggest(trial, space)]))[0]), n_trials=1000)
    complete = [t for t in plain.trials if t.state == optuna.trial.TrialState.COMPLETE]
    assert len(complete) == len(proposed), "study.optimize did not end with the space"


def narrowed_space_is_kept(make: Make) -> None:
    """After narrowing, proposals keep to the allowed options, although the history has others."""
    space, budget, fitness = example()
    study = open_study(None, "narrowed")
    search(space, fitness, make(space, budget, 13), evaluations=60, study=study, budget=budget)
    narrow = space.narrow({"block0.op": ["b", "c"], "block3.op": ["e"]})
    search(narrow, fitness, make(narrow, budget, 13), evaluations=TRIALS, study=study, budget=budget)
    later = History.of(study, space).population[60:]
    assert len(later) == TRIALS - 60, "the search of the narrowed space stopped early"
    assert narrow.contains(later).all(), "a proposal takes an option that narrowing removed"


def equal_architectures_count_once(make: Make) -> None:
    """In a space with inactive choices, proposals are canonical and no class of equal architectures is proposed twice."""
    space, budget, fitness = example(choices=6, options=3, upper=1.0)

    def inactive_beyond_depth(population: Population) -> Population:
        """The first choice is the depth: choices beyond it read their first option."""
        depth = 3 + population[:, :1]
        return np.where(np.arange(population.shape[1]) >= depth, 0, population)

    conditional = SearchSpace(space.choices, canonicalise=inactive_beyond_depth)
    population = _walk(make(conditional, budget, 14), conditional, budget, fitness, evaluations=117)
    np.testing.assert_array_equal(population, conditional.canonical(population), "a proposal is not canonical")
    assert len(set(map(tuple, population.tolist()))) == 9 + 27 + 81 == len(population), "not every class was proposed exactly once"


EXPLORER_CHECKS: tuple[Callable[[Make], None], ...] = (
    in_space_feasible_and_new,
    same_seed_same_trajectory,
    any_batch_same_trajectory,
    resumed_equals_undisturbed,
    plain_optuna_same_trajectory,
    second_instance_disturbs_nothing,
    only_earlier_trials_matter,
    bad_scores_survive,
    exhausted_space_ends,
    narrowed_space_is_kept,
    equal_architectures_count_once,
)


def _global_generators() -> tuple[object, str]:
    return random.getstate(), str(np.random.get_state())  # noqa: NPY002 (the global generator is what is watched)


def _walk(
    explorer: Explorer,
    space: SearchSpace,
    budget: Budget,
    fitness: Callable[[Population], npt.NDArray[np.float64]],
    *,
    batch: int | None = None,
    evaluations: int = TRIALS,
) -> Population:
    study = open_study(None, "walk")
    return search(space, fitness, explorer, evaluations=evaluations, study=study, budget=budget, batch=batch).history.population
