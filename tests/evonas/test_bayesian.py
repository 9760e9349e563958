"""The Bayesian explorer: its contract as properties, what it does with uncertainty, and who it beats."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from evonas import (
    BayesianExplorer,
    Budget,
    Choice,
    EvolutionExplorer,
    History,
    ParetoBayesianExplorer,
    RandomExplorer,
    SearchSpace,
    open_study,
    search,
)
from evonas.explorers.bayesian import ASKED_FIRST
from evonas.tabular import nasbench201, nasbench201_space
from evonas.testing import TableCost, example
from predictors import BoostedTrees, GaussianProcess


@st.composite
def histories(draw):
    """A small space with or without shared options, a budget that part of it keeps, and some trials, a few of them failed."""
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    names = draw(st.lists(st.sampled_from(["abc", "xy", "357"]), min_size=2, max_size=5))
    space = SearchSpace(tuple(Choice(f"c{i}", tuple(options)) for i, options in enumerate(names)))
    upper = draw(st.floats(0.3, 1.0))
    budget = Budget({"macs": TableCost(rng.random((len(space), 3)))}, [f"macs={upper * len(space)}"])
    population = RandomExplorer(space, budget, seed=seed).propose(History.empty(space), 0, draw(st.integers(0, 12)))
    scores = np.where(rng.random(len(population)) < 0.2, np.nan, rng.normal(size=len(population)).round(draw(st.integers(0, 3))))
    return space, budget, History(space, np.arange(len(population)), population, scores), seed


@settings(max_examples=40, deadline=None)
@given(histories(), st.integers(1, 10))
def test_proposals_are_in_the_space_feasible_and_new(case, size):
    space, budget, history, seed = case
    explorer = BayesianExplorer(space, budget, predictor=GaussianProcess(space), seed=seed, generation_size=size)
    rows = explorer.propose(history, len(history), size)
    everything = space.enumerate()
    left = set(space.keys(everything[budget.feasible(everything)])) - history.keys
    assert len(rows) == min(size, len(left))
    assert len({*space.keys(rows)}) == len(rows)
    assert {*space.keys(rows)} <= left
    again = BayesianExplorer(space, budget, predictor=GaussianProcess(space), seed=seed, generation_size=size)
    np.testing.assert_array_equal(rows, again.propose(history, len(history), size))


def best_found(explorer, evaluations):
    space, budget, fitness = example()
    study = open_study(None, "bayesian")
    return np.nanmax(search(space, fitness, explorer, evaluations=evaluations, study=study, budget=budget).history.scores)


def test_sixty_evaluations_beat_two_hundred_of_evolution():
    """A space of two million under a bound that half of it keeps."""
    space, budget, _ = example()
    ours = [best_found(BayesianExplorer(space, budget, predictor=GaussianProcess(space), seed=s, generation_size=5), 60) for s in range(3)]
    evolution = [best_found(EvolutionExplorer(space, budget, seed=s), 200) for s in range(3)]
    assert np.mean(ours) > np.mean(evolution)


def test_any_regressor_with_a_spread_serves():
    space, budget, _ = example()
    explorer = BayesianExplorer(space, budget, predictor=BoostedTrees(members=2, n_estimators=20), generation_size=20, pool=200, rounds=2)
    assert best_found(explorer, 100) > best_found(RandomExplorer(space, budget), 100)


def scored(n, seed=0):
    space, _, fitness = example(choices=5)
    population = RandomExplorer(space, seed=seed).propose(History.empty(space), 0, n)
    return space, History(space, np.arange(n), population, fitness(population))


def test_a_batch_is_the_best_bound_given_what_was_picked_before():
    """Brute force: condition on each pick by fitting the textbook way, with hyper-parameters held."""
    space, history = scored(30)
    explorer = BayesianExplorer(space, predictor=GaussianProcess(space), generation_size=4)
    rows = explorer.propose(history, 30, 4)
    ranks = norm.ppf((rankdata(history.scores) - 0.5) / 30)  # normal scores; no two scores are equal here
    model = GaussianProcess(space).fit(history.population[history.scored], ranks[history.scored])
    everything = space.enumerate()
    left = [i for i, key in enumerate(space.keys(everything)) if key not in history.keys]
    belief = model.belief(everything)
    for row in rows:
        bound = (belief.mean + explorer.optimism * belief.std)[left]
        picked = left[int(bound.argmax())]
        assert bound.max() == pytest.approx(bound[[tuple(everything[i]) == tuple(row) for i in left]][0])
        assert tuple(everything[picked]) == tuple(row)
        belief.condition(picked)
        left.remove(picked)


def test_nothing_left_is_an_empty_proposal():
    space = SearchSpace((Choice("a", ("x", "y")), Choice("b", ("x", "y"))))
    population = space.enumerate()
    history = History(space, np.arange(4), population, np.arange(4.0))
    assert len(BayesianExplorer(space, predictor=GaussianProcess(space)).propose(history, 4, 1)) == 0


def test_networks_that_other_workers_are_scoring_repel():
    """What is running counts as read: a second worker is not sent where the first one is."""
    space, history = scored(30)
    explorer = BayesianExplorer(space, predictor=GaussianProcess(space), optimism=1.5)
    first = explorer.propose(history, 30, 1)
    numbers, population = np.arange(31), np.concatenate([history.population, first])
    waiting = History(space, numbers, population, np.append(history.scores, np.nan))
    alone = BayesianExplorer(space, predictor=GaussianProcess(space), generation_size=2, optimism=1.5).propose(history, 30, 2)
    np.testing.assert_array_equal(explorer.propose(waiting, 31, 1)[0], alone[1])


def test_recommendation_under_noise_is_better_than_the_best_score():
    space, _, fitness = example(choices=5)
    gain = []
    for seed in range(30):
        population = RandomExplorer(space, seed=seed).propose(History.empty(space), 0, 150)
        truth = fitness(population)
        noisy = truth + 1.5 * np.random.default_rng(seed).normal(size=150)
        explorer = BayesianExplorer(space, predictor=GaussianProcess(space), seed=seed)
        chosen = explorer.recommend(History(space, np.arange(150), population, noisy))
        assert sorted(chosen) == list(range(150))
        gain.append(truth[chosen[0]] - truth[noisy.argmax()])
    assert np.mean(gain) > 2 * np.std(gain) / len(gain) ** 0.5


def test_sixty_evaluations_beat_a_hundred_and_fifty_of_evolution_on_real_cells(tables):
    """NAS-Bench-201, twelve epochs, CIFAR-100: means of three seeds."""
    fitness, space = nasbench201(tables / "nasbench201_accuracy.npz").lookup("ep12_cifar100_val"), nasbench201_space()

    def found(explorer, evaluations):
        study = open_study(None, "cells")
        return search(space, fitness, explorer, evaluations=evaluations, study=study).history.scores.max()

    ours = [found(BayesianExplorer(space, predictor=GaussianProcess(space), seed=seed), 60) for seed in range(3)]
    evolution = [found(EvolutionExplorer(space, seed=seed), 150) for seed in range(3)]
    assert np.mean(ours) > np.mean(evolution)


WORKER = """
import sys, time
from pathlib import Path
from evonas import BayesianExplorer, open_study, search
from evonas.testing import example
from predictors import GaussianProcess
space, budget, fitness = example(choices=5)
explorer = BayesianExplorer(space, budget, predictor=GaussianProcess(space), seed=int(sys.argv[2]))
here = Path(sys.argv[1]).parent
(here / f"ready{sys.argv[2]}").touch()
while len(list(here.glob("ready*"))) < 2:  # one may be done before the other has begun
    time.sleep(0.01)
search(space, fitness, explorer, evaluations=60, study=open_study(sys.argv[1], "shared"), budget=budget)
"""


def test_two_processes_share_one_journal(tmp_path):
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "study.log"), str(i)]) for i in range(2)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    space, budget, fitness = example(choices=5)
    trials = open_study(tmp_path / "study.log", "shared").trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    assert all(trial.state.is_finished() for trial in trials)
    scored = [trial for trial in trials if "repeats_trial" not in trial.user_attrs]
    rows = np.array([space.from_names(trial.params) for trial in scored])
    assert len(set(space.keys(rows))) == len(rows) == 60
    assert budget.feasible(rows).all()
    np.testing.assert_allclose([trial.value for trial in scored], fitness(rows))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 8), st.booleans())
def test_what_is_left_out_of_a_large_pool_is_not_what_would_be_picked(seed, size, front):
    """Beside a look at every candidate; networks that others are scoring among them."""
    space = SearchSpace(tuple(Choice(f"c{i}", ("1", "2", "3", "4")) for i in range(6)))
    rng = np.random.default_rng(seed)
    population = RandomExplorer(space, seed=seed).propose(History.empty(space), 0, 40)
    scores = np.where(np.arange(40) < 37, rng.normal(size=4)[population % 4].sum(axis=1) + rng.normal(size=40), np.nan)
    history = History(space, np.arange(40), population, scores)
    budget = Budget({"macs": TableCost(1 + rng.random((6, 4)))})
    predictor = GaussianProcess(space)
    explorer = (ParetoBayesianExplorer if front else BayesianExplorer)(space, budget, predictor=predictor, generation_size=size)
    fitted = explorer._fitted(history, explorer.targets(history))
    pool, waiting = explorer._list(history), population[37:]
    expected, _ = explorer._pick(fitted, explorer.worth(history), pool, waiting, size)
    np.testing.assert_array_equal(explorer._picked(fitted, explorer.worth(history), pool, waiting, size), expected)
    assert len(pool) > 4 * ASKED_FIRST, "most of it is left out"
