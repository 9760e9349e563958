"""Every registered explorer against the contract, and each algorithm against what its paper says."""

import copy
from functools import partial

import numpy as np
import optuna
import pytest

from evonas import (
    EXPLORERS,
    AgeingEvolutionExplorer,
    BayesianExplorer,
    Budget,
    Choice,
    EvolutionExplorer,
    History,
    ParetoBayesianExplorer,
    RandomExplorer,
    ScreenedExplorer,
    SearchSpace,
    UsageError,
    open_study,
    search,
)
from evonas.explorers.pareto import ParetoExplorer
from evonas.explorers.pareto_bayesian import ExpectedVolume
from evonas.testing import EXPLORER_CHECKS, Oracle, TableCost, any_batch_same_trajectory, example, in_space_feasible_and_new
from predictors import GaussianProcess

optuna.logging.set_verbosity(optuna.logging.ERROR)


LIGHT = {  # the same explorers with less work in a proposal
    "pareto-bayesian": lambda s, b, seed: ParetoBayesianExplorer(
        s, b, predictor=GaussianProcess(s), seed=seed, generation_size=20, pool=100, rounds=2
    ),
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


def volume_of(points, reference):
    """What some point is above in score and below in every cost, by counting a fine grid: points are (score, costs...), all in [0, 1]."""
    steps = 24
    centres = (np.arange(steps) + 0.5) / steps
    grid = np.stack(np.meshgrid(*[centres] * points.shape[1], indexing="ij"), axis=-1).reshape(-1, points.shape[1])
    covered = np.zeros(len(grid), dtype=bool)
    for point in points:
        covered |= (grid[:, 0] <= point[0]) & (grid[:, 1:] >= point[1:]).all(axis=1)
    inside = (grid[:, 0] >= reference[0]) & (grid[:, 1:] <= reference[1:]).all(axis=1)
    return (covered & inside).mean()


@pytest.mark.parametrize("costs", [1, 2])
def test_expected_volume_is_what_counting_says(costs):
    """Where nothing is uncertain it is the gain in volume, by a grid; where it is, the mean of that over normal draws."""
    rng = np.random.default_rng(0)
    lattice = np.arange(1, 24) / 24  # what a grid of cells counts exactly
    known = np.column_stack([rng.choice(lattice, 12), rng.choice(lattice, (12, costs))])
    known[0, 0] = known[:, 0].min()
    candidates = np.column_stack([rng.choice(lattice, 30), rng.choice(lattice, (30, costs))])
    everything = np.concatenate([known, candidates])[:, 1:]
    rows = np.arange(42)[:, None]
    worth = ExpectedVolume(lambda population: everything[population[:, 0]], rows[:12], known[:, 0], np.ones(costs))
    reference = np.array([known[:, 0].min(), *np.ones(costs)])
    before = volume_of(known, reference)
    gains = [volume_of(np.concatenate([known, one[None]]), reference) - before for one in candidates]
    np.testing.assert_allclose(worth(rows[12:], candidates[:, 0], np.full(30, 1e-9)), gains, atol=1e-9)
    mean, std = 0.6, 0.2
    levels, widths = worth.steps(everything[12:])
    drawn = rng.normal(mean, std, 20000)
    expected = [sum(w * np.maximum(drawn - level, 0).mean() for w, level in zip(each, levels, strict=True)) for each in widths]
    np.testing.assert_allclose(worth(rows[12:], np.full(30, mean), np.full(30, std)), expected, rtol=0.03, atol=1e-3)
    best = int(np.argmax(gains))
    worth.expect(rows[12 + best], float(candidates[best, 0]))
    assert worth(rows[12 + best : 13 + best], candidates[best : best + 1, 0], np.full(1, 1e-9))[0] == pytest.approx(0, abs=1e-9)


def test_a_front_takes_fewer_evaluations_where_it_is_modelled():
    """Of the volume of all 4,096 networks, after 60 evaluations: more than NSGA-II, whose front is recommended first."""
    space, budget, fitness = example(choices=6, options=4, upper=1.0)
    everything = space.enumerate()
    dearest = np.log(budget.costs["macs"](everything)).max()

    def volume(population):
        points = np.column_stack([dearest - np.log(budget.costs["macs"](population)), fitness(population) - lowest])
        points = points[np.argsort(-points[:, 0])]
        heights = np.maximum.accumulate(np.maximum(points[:, 1], 0))
        return (heights * -np.diff(np.append(points[:, 0], 0))).sum()

    lowest = np.quantile(fitness(everything), 0.05)
    found = {}
    for name in ("pareto-bayesian", "pareto", "random"):
        explorer = LIGHT["pareto-bayesian"](space, budget, 0) if name == "pareto-bayesian" else EXPLORERS[name].make(space, budget, 0)
        history = search(space, fitness, explorer, evaluations=60, study=open_study(None, name), budget=budget).history
        found[name] = volume(history.population) / volume(everything)
        if name == "pareto-bayesian":
            order = explorer.recommend(history)
            assert sorted(order.tolist()) == sorted(history.scored.tolist())
            front = explorer.front(history, history.scores)
            assert (np.diff(budget.costs["macs"](history.population[front])) < 0).all()
            assert (np.diff(history.scores[front]) < 0).all()
    assert found["pareto-bayesian"] > 0.95
    assert found["pareto-bayesian"] > max(found["pareto"], found["random"])


def test_a_network_that_costs_nothing_is_not_worth_everything():
    """A cost of 0 has no logarithm. What is far cheaper than all that is good gains no more; where those are cheap, it does."""
    space = SearchSpace((Choice("dear", tuple("abcdef")), Choice("cheap", tuple("abcdef"))))
    costs = TableCost(np.array([[0.0, 1e-6, 1e-3, 1, 10, 100], [0.0, 1e-9, 2e-9, 3e-9, 4e-9, 5e-9]]))
    explorer = LIGHT["pareto-bayesian"](space, Budget({"macs": costs}, []), 0)
    rows = space.enumerate()

    def gains(scored):
        """Of networks of one expected score, by their costs: 0, 1e-6, 1e-3, ..., where these were scored, dearer ones being better."""
        population = rows[np.isin(rows[:, 0], scored) & (rows[:, 1] == 0)]
        history = History(space, np.arange(len(population)), population, population[:, 0].astype(float))
        candidates = rows[rows[:, 1] == 0]
        return explorer.worth(history)(candidates, np.full(len(candidates), 10.0), np.full(len(candidates), 1e-9))

    dear, cheap = gains([3, 4, 5]), gains([0, 1, 2, 3, 4, 5])
    assert np.isfinite(dear).all()
    assert dear[0] == pytest.approx(dear[1])  # both a millionth of what is known
    assert dear[1] < 3 * dear[3]
    assert (dear[2:-1] > dear[3:]).all()
    assert cheap[1] > 1.2 * cheap[2]


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


@pytest.mark.parametrize("name", EXPLORERS)
def test_what_is_to_be_tried_first_comes_first(name):
    """In order, each once, whatever the batch; then the explorer goes on, knowing their scores, and repeats none of them."""
    space, budget, fitness = example()
    wanted = space.sample(400, np.random.default_rng(5))
    wanted = np.concatenate([wanted[budget.feasible(wanted)][:7], wanted[budget.feasible(wanted)][:1]])
    plain = LIGHT.get(name, EXPLORERS[name].make)(space, budget, 1)
    walks = []
    for batch in (None, 3):
        explorer = copy.copy(plain)
        explorer.first = plain._feasible(wanted)
        study = open_study(None, f"first-{batch}")
        walks.append(search(space, fitness, explorer, evaluations=80, study=study, budget=budget, batch=batch).history.population)
        assert [trial.user_attrs.get("first", False) for trial in study.trials] == [True] * 7 + [False] * 73
    np.testing.assert_array_equal(*walks)
    np.testing.assert_array_equal(walks[0][:7], wanted[:7])
    assert len(set(map(tuple, walks[0].tolist()))) == 80


def test_first_is_an_argument_that_leaves_out_what_breaks_the_budget():
    space, budget, fitness = example()
    everything = space.sample(200, np.random.default_rng(5))
    mixed = [*everything[budget.feasible(everything)][:2], *everything[~budget.feasible(everything)][:3]]
    for make in (EvolutionExplorer, RandomExplorer, AgeingEvolutionExplorer, ParetoExplorer):
        with pytest.warns(UserWarning, match="3 of 5 architectures to try first break the budget"):
            assert len(make(space, budget, first=mixed).first) == 2
    with pytest.raises(UsageError, match="9 choices"):
        EvolutionExplorer(space, budget, first=[(0, 1)])
    good = BayesianExplorer(space, budget, predictor=GaussianProcess(space), first=mixed[:1])
    assert len(ScreenedExplorer(EvolutionExplorer(space, budget, first=mixed[:1]), Oracle(fitness)).first) == len(good.first) == 1
    best = EvolutionExplorer(space, budget, first=mixed[:2], seed=3, mutants=0, crossovers=50)
    found = search(space, fitness, best, evaluations=30, study=open_study(None, "good"), budget=budget).history.population
    crossed = np.stack(mixed[:2])
    made = [((row == crossed[0]) | (row == crossed[1])).all() for row in found[2:]]
    assert sum(made) >= 10  # the first generation descends from what was tried first


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (EvolutionExplorer, {"population": 0}, "population=0"),
        (EvolutionExplorer, {"parents": 0}, "parents=0"),
        (EvolutionExplorer, {"mutants": 30, "crossovers": 30}, "30 mutants and 30 crossovers in a population of 50"),
        (EvolutionExplorer, {"mutation_probability": 1.5}, "mutation_probability=1.5"),
        (RandomExplorer, {"generation_size": -1}, "generation_size=-1"),
        (AgeingEvolutionExplorer, {"sample": 0}, "sample=0"),
        (AgeingEvolutionExplorer, {"children": 0}, "children=0"),
        (ParetoExplorer, {"crossover_probability": float("nan")}, "crossover_probability=nan"),
        (ParetoExplorer, {"costs": ()}, "got none"),
        (partial(ParetoBayesianExplorer, predictor=None), {"costs": ()}, "got none"),
    ],
)
def test_impossible_settings_are_refused(make, settings, words):
    space, budget, _ = example()
    with pytest.raises(UsageError, match=words):
        make(space, budget, **settings)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (EvolutionExplorer, {"mutants": 50, "crossovers": 0}),
        (AgeingEvolutionExplorer, {}),
        (ParetoExplorer, {"crossover_probability": 0.0}),
    ],
)
def test_variation_is_an_argument(make, settings):
    """A mutation of one's own makes the children; one that leaves the space is refused."""
    space, budget, fitness = example(upper=1.0)
    seen = []

    def shift(individual, low, up):
        seen.append(len(individual))
        return ([(position + 1) % (end + 1) for position, end in zip(individual, up, strict=True)],)

    settings = (
        {"mutants": 50, "crossovers": 0} if make is EvolutionExplorer else {"crossover_probability": 0.0} if make is ParetoExplorer else {}
    )
    explorer = make(space, budget, seed=1, population=50, mutate=shift, **settings)
    study = open_study(None, "own")
    found = search(space, fitness, explorer, evaluations=60, study=study, budget=budget).history.population
    assert set(seen) == {9}
    parents = {tuple(((row + 1) % 5).tolist()) for row in found[:59]}
    assert sum(tuple(row) in parents for row in found[50:60].tolist()) >= 6  # a parent that is drawn again has no new child
    outside = make(space, budget, seed=1, population=50, mutate=lambda individual, low, up: ([9] * 9,), **settings)
    with pytest.raises(UsageError, match="left the space"):
        search(space, fitness, outside, evaluations=60, study=open_study(None, "outside"), budget=budget)
