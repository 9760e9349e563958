"""Ranking measures against definitions written out, simulations, and the published table."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas import UsageError
from evonas.ranking import (
    best,
    bootstrap,
    judge,
    noise,
    noise_ceiling,
    null_band,
    precision,
    recall_of_worst,
    regret,
    sparse_tau,
    stability,
    tau,
    tau_within,
    true_rank,
)
from evonas.ranks import fused
from evonas.tabular import nasbench_macro

scores = st.lists(st.integers(0, 6), min_size=2, max_size=12)


def tau_b(first, second):
    """Kendall 1945, over all pairs."""
    pairs = list(itertools.combinations(range(len(first)), 2))
    signs = [(np.sign(first[i] - first[j]), np.sign(second[i] - second[j])) for i, j in pairs]
    norm = sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs)
    return sum(a * b for a, b in signs) / np.sqrt(norm) if norm else float("nan")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_tau_counts_pairs(data):
    first = np.array(data.draw(scores))
    second = np.array(data.draw(st.lists(st.integers(0, 6), min_size=len(first), max_size=len(first))))
    assert tau(first, second) == pytest.approx(tau_b(first, second), nan_ok=True)


def test_tau_of_equal_and_reversed_rankings():
    values = np.arange(20.0)
    assert tau(values, values**3) == pytest.approx(1)
    assert tau(values, -values) == pytest.approx(-1)
    assert np.isnan(tau([1.0], [2.0]))


def test_chance_stays_within_the_null_band_95_times_of_100(rng):
    found = [abs(tau(rng.random(40), rng.random(40))) for _ in range(1500)]
    assert np.mean(np.array(found) <= null_band(40)) == pytest.approx(0.95, abs=0.02)


def test_the_bootstrap_interval_is_as_wide_as_tau_scatters(rng):
    """Of 60 networks drawn from a population: the mean width of the interval against the standard deviation of tau itself."""
    truth = rng.normal(size=(200, 60))
    predicted = truth + rng.normal(size=truth.shape)
    taus = [tau(p, t) for p, t in zip(predicted, truth, strict=True)]
    widths = [np.ptp(bootstrap(p, t, draws=200)) for p, t in zip(predicted[:20], truth[:20], strict=True)]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(taus), rel=0.2)


def test_differences_within_the_noise_do_not_count():
    truth = np.array([0.901, 0.902, 0.953, 0.952, 1.001])
    predicted = np.array([2.0, 1.0, 3.0, 4.0, 5.0])
    assert tau(predicted, truth) == pytest.approx(0.6)  # two of ten pairs are the other way round, both within the noise
    assert sparse_tau(predicted, truth, 0.05) == pytest.approx(8 / np.sqrt(8 * 10))
    assert sparse_tau(predicted, truth, 0.0) == tau(predicted, truth)


def test_what_looks_at_the_best():
    truth = np.arange(20.0)
    predicted = truth.copy()
    predicted[[19, 10]] = predicted[[10, 19]]  # the best network is thought to be mediocre
    assert best(truth, 0.1).nonzero()[0].tolist() == [18, 19]
    assert best(np.array([1.0, 2.0, 2.0]), 0.34).tolist() == [False, True, False]  # of equal ones, the first
    assert precision(predicted, truth, 0.1) == 0.5
    assert true_rank(predicted, truth, 1) == 10
    assert true_rank(predicted, truth, 2) == 2
    assert true_rank(predicted, truth, 2, worst=True) == 10
    assert regret(predicted, truth) == 9
    assert recall_of_worst(predicted, truth) == 1
    assert recall_of_worst(-predicted, truth) == 0
    assert tau_within(predicted, truth, truth, 0.2) == pytest.approx(tau(predicted[16:], truth[16:]))
    assert tau_within(predicted, truth, predicted, 0.1) == -1


@pytest.mark.parametrize("n", [1, 3, 10])
def test_a_perfect_ranking_finds_the_best_at_once(n, rng):
    truth = rng.random(50)
    assert true_rank(truth, truth, n) == 1
    assert true_rank(truth, truth, n, worst=True) == n


def test_stability_of_random_rankings_is_nothing(rng):
    """64 networks in ten runs: the standard deviation of S-Tau is .0125."""
    assert abs(stability(rng.random((10, 64)))) < 0.05
    runs = rng.random((3, 8))
    assert stability(runs) == pytest.approx(np.mean([tau_b(runs[0], runs[1]), tau_b(runs[0], runs[2]), tau_b(runs[1], runs[2])]))
    assert stability([runs[0]] * 4) == pytest.approx(1)
    assert np.isnan(stability(runs[:1]))


def test_noise_is_the_standard_deviation_between_trainings(rng):
    runs = rng.random((4000, 1)) + rng.normal(0, 0.03, (4000, 3))
    assert noise(runs) == pytest.approx(0.03, rel=0.05)
    assert noise(runs[:, :1]) == 0
    assert np.isnan(noise_ceiling(runs[:, :1]))


def test_the_macro_table_has_its_published_figures(tables):
    """Noise ceiling over all networks, in the top tenth and twentieth, and what MACs alone reach."""
    table = nasbench_macro(tables / "nasbench_macro.npz")
    runs = table.columns["test"]
    assert noise_ceiling(runs) == pytest.approx(0.896, abs=0.001)
    assert noise_ceiling(runs, 0.1) == pytest.approx(0.339, abs=0.001)
    assert noise_ceiling(runs, 0.05) == pytest.approx(0.321, abs=0.002)
    assert tau(table.columns["macs"], runs.mean(1)) == pytest.approx(0.556, abs=0.0005)


def test_everything_at_once(rng):
    truth = rng.random((100, 3)) * 0.01 + np.linspace(0.5, 0.9, 100)[:, None]
    found = judge(truth.mean(1), truth, draws=50)
    assert found["tau"] == pytest.approx(1)
    assert found["spearman"] == pytest.approx(1)
    assert found["precision"]["0.1"] == 1
    assert found["best_rank"]["1"] == 0.01
    assert found["worst_rank"]["10"] == 0.1
    assert found["regret_points"] == 0
    assert found["delta"] == pytest.approx(2 * noise(truth))
    found = judge(rng.random(100), truth, draws=50)
    assert found["interval"][0] < found["tau"] < found["interval"][1]
    assert found["regret_points"] > 0


@pytest.mark.parametrize(
    ("predicted", "runs", "words"),
    [
        (np.zeros(4), np.zeros((5, 1)), "expected"),
        (np.zeros(2), np.zeros((2, 1)), "at least 3"),
        (np.full(4, np.nan), np.zeros((4, 1)), "finite"),
    ],
)
def test_what_cannot_be_judged(predicted, runs, words):
    with pytest.raises(UsageError, match=words):
        judge(predicted, runs)


def test_a_fused_score_weighs_the_dear_side_as_much_as_the_cheap_ones(rng):
    dear, cheap = rng.random(300), rng.random(300)
    assert tau(fused(dear, dear**3), dear) == pytest.approx(1)
    assert fused(dear, cheap) == pytest.approx(fused(np.exp(dear), 1e9 * cheap))  # units do not count
    assert fused(dear, cheap, cheap) == pytest.approx(fused(dear, cheap))
    assert tau(fused(dear, cheap), dear) == pytest.approx(tau(fused(dear, cheap), cheap), abs=0.06)
