"""Every registered explorer against the contract, and each algorithm against what its paper says."""

import numpy as np
import optuna
import pytest

from evonas import (
    EXPLORERS,
    AgeingEvolutionExplorer,
    BayesianExplorer,
    Budget,
    EvolutionExplorer,
    History,
    RandomExplorer,
    ScreenedExplorer,
    open_study,
    search,
)
from evonas.explorers.pareto import ParetoExplorer
from evonas.testing import EXPLORER_CHECKS, Oracle, TableCost, any_batch_same_trajectory, example, in_space_feasible_and_new
from predictors import GaussianProcess

optuna.logging.set_verbosity(optuna.logging.ERROR)


LIGHT = {  # the same explorers with less work in a proposal
    "bayesian": lambda s, b, seed: BayesianExplorer(s, b, predictor=GaussianProcess(s), seed=seed, generation_size=20, pool=100, rounds=2),
}


@pytest.mark.parametrize("name", EXPLORERS)
@pytest.mark.parametrize("check", EXPLORER_CHECKS, ids=lambda check: check.__name__)
def test_contract(name, check):
    check(LIGHT.get(name, EXPLORERS[name].make))


def test_every_light_explorer_is_registered():
    assert set(LIGHT) <= set(EXPLORERS)


class Stuck(RandomExplorer):
    """Breaks the contract: proposes the same row again and again."""

    def propose(self, history, start, size):
        return np.repeat(super().propose(History.empty(self.space), 0, 1), size, axis=0)


class Drifting(RandomExplorer):
    """Breaks the contract: its proposals depend on how often it was asked."""

    asked = 0

    def propose(self, history, start, size):
        self.asked += 1
        self.seed = self.seed + self.asked
        return super().propose(history, start, size)


@pytest.mark.parametrize(("broken", "check"), [(Stuck, in_space_feasible_and_new), (Drifting, any_batch_same_trajectory)])
def test_the_contract_can_fail(broken, check):
    with pytest.raises(AssertionError):
        check(lambda space, budget, seed: broken(space, budget, seed=seed))


def scored_history(n, seed=0, **kwargs):
    space, budget, fitness = example(**kwargs)
    population = RandomExplorer(space, budget, seed=seed).propose(History.empty(space), 0, n)
    return space, budget, fitness, History(space, np.arange(n), population, fitness(population))


def test_evolution_breeds_from_the_best_ten():
    """Half of a generation is within reach of mutation, all of it made of options that the ten best have or mutation draws."""
    space, budget, _, history = scored_history(200)
    top = history.population[history.scored[:10]]
    children = EvolutionExplorer(space, budget, mutation_probability=0.0, mutants=0, crossovers=50).propose(history, 200, 50)
    from_parents = (children[:, None, :] == top[None]).any(axis=1)
    assert from_parents.all(axis=1).mean() > 0.9  # what is not came from the random top-up
    for child in children[from_parents.all(axis=1)]:
        two = [(i, j) for i in range(10) for j in range(10) if ((top[i] == child) | (top[j] == child)).all()]
        assert two, "a crossover has genes of more than two parents"


def test_mutation_changes_each_choice_with_its_probability():
    """A gene changes with probability p (k - 1) / k: the redraw may draw the same option."""
    space, _, _, history = scored_history(1, upper=1.0)
    from evonas.explorers.variation import Variation, redraw

    mutants = Variation(space, history.population).mutants(4000, np.random.default_rng(0), redraw(0.1))
    changed = (mutants != history.population[0]).mean(axis=0)
    assert np.abs(changed - 0.1 * 4 / 5).max() < 0.02


def test_evolution_beats_random_search():
    space, budget, fitness = example(choices=12)
    best = {}
    for name in ("random", "evolution", "screened", "ageing"):
        scores = []
        for seed in range(5):
            study = open_study(None, "compare")
            result = search(space, fitness, EXPLORERS[name].make(space, budget, seed), evaluations=200, study=study, budget=budget)
            scores.append(result.history.scores.max())
        best[name] = np.array(scores)
    for name in ("evolution", "screened", "ageing"):
        assert (best[name] > best["random"]).mean() >= 4 / 5


def test_ageing_forgets_the_old_best():
    """Only the last `population` trials are alive: the children of a dead best do not appear."""
    space, budget, _, history = scored_history(200)
    history.scores[0] = 1e9
    explorer = AgeingEvolutionExplorer(space, budget, population=50, sample=50, children=8)
    children = explorer.propose(history, 200, 8)
    alive = history.population[150:]
    assert ((children[:, None, :] != alive[None]).sum(axis=2).min(axis=1) == 1).all()
    assert ((children != history.population[0]).sum(axis=1) > 1).any()


def brute_force_front(values):
    """Rows that no other row dominates, all columns maximised."""
    dominated = (values[:, None] <= values[None]).all(axis=2) & (values[:, None] < values[None]).any(axis=2)
    return ~dominated.any(axis=1)


def test_pareto_breeds_from_the_front():
    """With room for the front alone, parents are on it; only the most crowded of them can lose every tournament."""
    space, budget, _, history = scored_history(120)
    values = np.stack([history.scores, -budget.costs["macs"](history.population)], axis=1)
    front = {tuple(row) for row in history.population[brute_force_front(values)].tolist()}
    explorer = ParetoExplorer(space, budget, population=max(len(front), 4))
    parents = {tuple(row) for row in explorer._tournaments(history, 400, np.random.default_rng(0)).tolist()}
    assert len(front) >= 4
    assert parents <= front
    assert len(parents) >= len(front) - 1


def test_pareto_finds_more_of_the_true_front_than_other_explorers():
    """The front of all 16,384 networks is known; how much of it is found in 500 evaluations, mean of 4 seeds."""
    space, budget, fitness = example(choices=7, options=4, upper=1.0)
    everything = space.enumerate()
    values = np.stack([fitness(everything), -budget.costs["macs"](everything)], axis=1)
    order = np.argsort(-values[:, 0])
    running = np.maximum.accumulate(np.concatenate([[-np.inf], values[order, 1]]))[:-1]
    front = set(space.keys(everything[order[values[order, 1] > running]]))
    found = {}
    for name in ("pareto", "evolution", "random"):
        shares = []
        for seed in range(4):
            explorer = EXPLORERS[name].make(space, budget, seed)
            history = search(space, fitness, explorer, evaluations=500, study=open_study(None, "front"), budget=budget).history
            shares.append(len(front & history.keys) / len(front))
        found[name] = np.mean(shares)
    assert found["pareto"] > found["evolution"] > found["random"]


def test_screening_takes_the_predicted_best_and_a_share_at_random():
    space, budget, fitness, history = scored_history(60)
    pool = RandomExplorer(space, budget, seed=1).propose(history, 60, 500)
    explorer = ScreenedExplorer(RandomExplorer(space, budget, seed=1), Oracle(fitness), generation_size=20, pool=500, exploration=0.25)
    chosen = explorer.propose(history, 60, 20)
    best = pool[np.argsort(-fitness(pool))[:15]]
    np.testing.assert_array_equal(chosen[:15], best)
    others = fitness(chosen[15:])
    assert len(others) == 5
    assert (others < fitness(best).min()).all()


def test_tight_corner_is_found_where_rejection_finds_nothing():
    """One architecture in 5^12 keeps the bound: descent has to find it."""
    table = np.random.default_rng(3).random((12, 5))
    space, _, _ = example(choices=12)
    cheapest = table.min(axis=1).sum()
    budget = Budget({"macs": TableCost(table)}, [f"macs={float(cheapest * (1 + 1e-9))!r}"])
    assert RandomExplorer(space, budget).propose(History.empty(space), 0, 5).tolist() == [table.argmin(axis=1).tolist()]
