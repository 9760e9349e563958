"""The diagnosis of a gap, on gaps made by hand, and the instruments that it is fed with."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from evonas import Choice, SearchSpace, UsageError
from evonas.diagnosis import Cause, Repeated, Truth, diagnose, profile
from evonas.ranking import tau
from supernet import FineTunedFitness, InheritedFitness, StandAlone, UniformPaths, accuracy, macro, train, two_node
from supernet.diagnosis.causes import (
    Bench,
    discretisation,
    fairness,
    gradient_cosine,
    space_size,
    stale_statistics,
    stale_weights,
    updates_of,
)
from supernet.diagnosis.follow import Follower, ends_of_epochs, last_steps
from supernet.evaluation import recalibrate
from supernet.training.fair import FairPaths

CPU = torch.device("cpu")
SPACE = SearchSpace((Choice("a", ("x", "y", "z")), Choice("b", ("x", "y")), *(Choice(f"c{i}", ("x", "y")) for i in range(6))))


@pytest.fixture
def truth(rng):
    population = SPACE.enumerate()
    merit = population @ np.array([3.0, 1, 2, 1, 1, 1, 1, 1]) + rng.normal(0, 1, len(population))
    accuracies = 0.9 + 0.01 * (merit - merit.mean()) / merit.std()
    return Truth(population, accuracies[:, None] + rng.normal(0, 0.001, (len(population), 3)), "made by hand")


def test_an_overrated_option_is_named(truth):
    """Scores are the truth, plus a present for one option: that one stands out, as many percentiles as it was given."""
    shared = truth.mean + 0.02 * (truth.population[:, 0] == 1)
    found = profile(SPACE, truth, shared, {"ones": truth.population[:, 0].astype(float), "flat": np.zeros(len(shared))})
    effects = {(c, o): e for c, options in found["options"].items() for o, e in options.items()}
    assert max(effects, key=effects.get) == ("a", "y")
    assert all(abs(e) < 8 for (choice, _), e in effects.items() if choice != "a")
    percentile = 100 * (shared.argsort().argsort() - truth.mean.argsort().argsort()) / len(shared)
    given = np.mean(percentile[truth.population[:, 0] == 1])
    assert effects["a", "y"] == pytest.approx(given, abs=1)
    assert found["features"]["flat"] is None
    assert found["gap_points"]["mean"] == pytest.approx(-100 * 0.02 / 3, rel=1e-6)


def test_options_that_no_network_takes_are_not_judged(truth):
    some = truth.rows(truth.population[:, 0] < 2)
    found = profile(SPACE, some, some.mean, {})
    assert found["options"]["a"]["z"] is None
    assert all(abs(e) < 1e-9 for e in found["options"]["a"].values() if e is not None)


def test_the_diagnosis_is_plain_data_with_every_part(truth, rng):
    shared = truth.mean + rng.normal(0, 0.004, len(truth.mean))
    causes = [
        Cause("A", "with", "without", 0.5, 0.6, (0.02, 0.2), 60),
        Cause("D", "with", "without", 0.1, 0.9, (-0.1, 0.9), 9),
        Cause("E", "with", "without", 0.4, 0.65, (0.1, 0.4), 60),
    ]
    repeated = {"seeds": Repeated(np.stack([truth.mean, -truth.mean]), np.arange(len(truth.mean)))}
    found = diagnose(
        SPACE,
        truth,
        shared,
        baselines={"perfect": truth.mean, "random": rng.random(len(shared))},
        features={},
        repeated=repeated,
        causes=causes,
    )
    assert json.loads(json.dumps(found)) == found
    assert found["supernet"]["tau"] == tau(shared, truth.mean)
    low, high = found["baselines"]["perfect"]["supernet_ahead"]
    assert low < high < 0
    assert found["baselines"]["random"]["supernet_ahead"][0] > 0
    assert found["stability"]["seeds"]["s_tau"] == pytest.approx(-1)
    assert found["stability"]["seeds"]["gt_taus"] == [pytest.approx(1), pytest.approx(-1)]
    assert found["stability"]["seeds"]["gt_tau_std"] == pytest.approx(1)
    assert found["largest_cause"] == "E"  # D's effect is larger, and within its noise
    assert found["causes"][2]["effect"] == pytest.approx(0.25)
    assert 0.8 < found["truth"]["ceiling"]["1"] < 1


def test_what_cannot_be_known_is_none(truth):
    """One training says nothing of noise, and a constant score ranks nothing."""
    once = Truth(truth.population, truth.runs[:, :1], "one training")
    found = diagnose(SPACE, once, truth.mean, baselines={"constant": np.ones(len(truth.mean))}, features={}, causes=[])
    assert found["truth"]["ceiling"] == {"1": None, "0.1": None, "0.05": None}
    assert found["baselines"]["constant"]["tau"] is None
    assert found["largest_cause"] is None
    json.dumps(found, allow_nan=False)


def test_too_few_networks_are_refused(truth):
    few = truth.rows(np.arange(49))
    with pytest.raises(UsageError, match="at least 50"):
        diagnose(SPACE, few, few.mean, baselines={}, features={})


@pytest.fixture(scope="module")
def supernet(digits):
    made = two_node((1, 8, 8), 10, channels=4, cells=1)
    train(made, UniformPaths(), digits.train.head(640), epochs=4, batch_size=64)
    return made


@pytest.fixture
def trained():
    """What a bench has trained, by name: (space, way)."""
    return {}


@pytest.fixture
def bench(digits, supernet, trained):

    images = replace(digits, train=digits.train.head(640))
    population = supernet.space.enumerate()
    merit = np.random.default_rng(0).random((64, 1))

    def more(name, network, way, *, scale=1.0):
        trained[name] = (network.space, way)
        train(network, way, images.train, epochs=max(round(4 * scale), 1), batch_size=64)

    return Bench(
        lambda: two_node((1, 8, 8), 10, channels=4, cells=1), supernet, False, 40, more, images, Truth(population, merit, "random"), CPU
    )


@pytest.fixture(scope="module")
def copies(supernet, digits):
    """Accuracies of all 64 networks copied out, as training left their statistics and with statistics of their own."""
    found = {"running": [], "recalibrated": []}
    for row in supernet.space.enumerate():
        network = supernet.subnet(row)
        found["running"].append(accuracy(network, digits.search, CPU))
        recalibrate(network, digits.train.head(512).batches(128, CPU))
        found["recalibrated"].append(accuracy(network, digits.search, CPU))
    return {name: np.array(values) for name, values in found.items()}


def tau_by_counting(scores, truth):
    """Kendall's tau-b from the signs of all pairs."""
    one, other = (np.sign(values[:, None] - values[None, :]) for values in (scores, truth))
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def test_stale_statistics_compare_copies_without_and_with_their_own(bench, supernet, digits, copies):
    assert InheritedFitness(supernet, digits.search, None)(supernet.space.enumerate()) == pytest.approx(copies["running"])
    cause, truth = stale_statistics(bench), bench.truth.mean
    assert cause.tau_present == pytest.approx(tau_by_counting(copies["running"], truth))
    assert cause.tau_removed == pytest.approx(tau_by_counting(copies["recalibrated"], truth))


def test_likelihood_is_minus_the_cross_entropy(supernet, digits):
    population = supernet.space.enumerate()[::16]
    fitness = InheritedFitness(supernet, digits.search, digits.train.head(128))
    logits = fitness.logits(population).double()
    labels = digits.search.labels
    expected = logits.log_softmax(2)[:, torch.arange(len(labels)), labels].mean(1)
    assert fitness.likelihood(population).tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_fine_tuning_is_training_by_hand(supernet, digits):
    row = supernet.space.enumerate()[20]
    found = FineTunedFitness(supernet, digits.search, digits.train, steps=3, lr=0.05, calibration_images=128)(row[None])
    network = supernet.subnet(row)
    train(network, StandAlone(), digits.train.head(3 * 64), epochs=1, batch_size=64, lr=0.05, warmup_epochs=0)
    recalibrate(network, digits.train.head(128).batches(128, CPU))
    assert found[0] == accuracy(network, digits.search, CPU)


def test_no_step_of_fine_tuning_is_inherited_fitness(supernet, digits):
    population = supernet.space.enumerate()[::13]
    calibration = digits.train.head(256)
    none = FineTunedFitness(supernet, digits.search, digits.train, steps=0, calibration_images=256)(population)
    assert none.tolist() == pytest.approx(InheritedFitness(supernet, digits.search, calibration)(population).tolist())
    weights = {name: value.clone() for name, value in supernet.state_dict().items()}
    FineTunedFitness(supernet, digits.search, digits.train, steps=2)(population[:1])
    with pytest.raises(UsageError, match="at most 17 steps"):
        FineTunedFitness(supernet, digits.search, digits.train, steps=20)
    assert all(torch.equal(weights[name], value) for name, value in supernet.state_dict().items())


def test_fairness_counts_and_compares(bench, copies, trained):
    cause = fairness(bench)
    assert cause.tau_present == pytest.approx(tau_by_counting(copies["recalibrated"], bench.truth.mean))
    assert list(trained) == ["fairness-fair"]
    assert cause.details["updates"]["fair"]["spread"] == 0
    assert cause.details["updates"]["uniform"]["fewest"] < 10 < cause.details["updates"]["uniform"]["most"]
    assert updates_of(FairPaths(), bench.trained.space, 12) == {"fewest": 12, "most": 12, "spread": 0}


def test_gradients_of_one_path_agree_and_nothing_is_left_behind(supernet, digits):
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    found = gradient_cosine(supernet, digits.train.head(64), CPU)
    assert -1 <= found["mean"] < 1
    assert all(torch.equal(before[name], value) for name, value in supernet.state_dict().items())
    narrowed = two_node((1, 8, 8), 10, channels=4, cells=1)
    narrowed.space = narrowed.space.narrow({name: ["sep_conv_3x3"] for name in narrowed.space.names})
    assert gradient_cosine(narrowed, digits.train.head(64), CPU)["paths"] == 1


def test_discretisation_compares_mixtures_with_their_paths(bench, copies, monkeypatch):
    cause = discretisation(bench, mixtures=4)
    assert cause.tau_removed == pytest.approx(tau_by_counting(copies["recalibrated"], bench.truth.mean))
    assert 0 < cause.details["entropy_bits"] < 2  # four options have two bits at most

    def hard(space, rng, device):
        return [torch.eye(4)[int(rng.integers(4))] for _ in range(len(space))]

    monkeypatch.setattr("supernet.diagnosis.causes.draw_gates", hard)
    cause = discretisation(bench, mixtures=4)  # gates that keep one option lose nothing when one option is kept
    assert cause.details["mixture_accuracy"] == pytest.approx(cause.details["path_accuracy"])
    assert cause.details["entropy_bits"] == 0


def test_the_smaller_space_is_the_best_networks_own(bench, trained):
    cause = space_size(bench)
    best = bench.truth.population[bench.scores(bench.trained).argmax()]
    space, way = trained["space-size"]
    assert space.allowed == ((int(best[0]),), (0, 1, 2, 3), (0, 1, 2, 3))
    assert isinstance(way, UniformPaths)
    assert cause.networks == 16
    assert cause.details["share_of_space"] == 0.25
    assert cause.interval[0] < cause.tau_removed - cause.tau_present < cause.interval[1]


def test_a_sub_space_holds_its_own_networks_also_where_some_are_equal(digits, rng):
    """On macro, fixing a choice inside a stage to the identity would let equal networks out: fewer choices are fixed then."""
    supernet = macro((1, 8, 8))
    population = supernet.space.enumerate()
    population = population[(population[:, 1] == 0) & (population[:, 3] == 0)][:300]
    seen = {}
    truth = Truth(population, rng.random((len(population), 1)), "random")
    found = Bench(
        lambda: macro((1, 8, 8)), supernet, False, 1, lambda name, network, way, **_: seen.update({name: network.space}), digits, truth, CPU
    )
    object.__setattr__(found, "scores", lambda _, networks=population: np.arange(len(networks), dtype=float))
    space_size(found)
    space = seen["space-size"]
    assert space.contains(space.sample(2000, rng)).all()
    assert sum(len(options) == 1 for options in space.allowed) < 4


def test_fairness_of_a_fair_supernet_trains_a_uniform_one(bench, trained, copies):
    cause = fairness(replace(bench, fair=True))
    assert list(trained) == ["fairness-uniform"]
    assert cause.tau_removed == pytest.approx(tau_by_counting(copies["recalibrated"], bench.truth.mean))
    trained.clear()
    space_size(replace(bench, fair=True))
    assert isinstance(trained["space-size"][1], FairPaths)


def test_stale_weights_are_scored_after_each_number_of_steps(bench, copies):
    rows = np.array([3, 17, 40, 60])
    cause = stale_weights(bench, rows, (1, 2))
    assert list(cause.details["tau_after_steps"]) == ["0", "1", "2"]
    assert cause.tau_present == pytest.approx(tau_by_counting(copies["recalibrated"][rows], bench.truth.mean[rows]))
    assert cause.tau_removed == cause.details["tau_after_steps"]["2"]


def test_a_followed_training_that_is_killed_loses_nothing(digits, tmp_path):
    """Scores at the ends of epochs and after the last steps: the same as undisturbed, and the last is that of the trained supernet."""
    part, per_epoch = digits.train.head(256), 4
    steps = {*ends_of_epochs(per_epoch, 3, 2), *last_steps(per_epoch, 3, 64)}
    assert steps == {8, 9, 10, 11, 12}
    population = two_node((1, 8, 8), 10, channels=4, cells=1).space.enumerate()[::21]

    def follow(path, stop=99):
        supernet = two_node((1, 8, 8), 10, channels=4, cells=1)
        fitness = InheritedFitness(supernet, digits.search, None)
        follower = Follower(lambda: fitness(population), steps, path / "followed.json")

        def step(number):
            follower(number)
            if number == stop:
                raise KeyboardInterrupt

        train(supernet, UniformPaths(), part, epochs=3, batch_size=64, checkpoint=path / "c.pt", identity="x", on_step=step)
        return follower, fitness

    whole, fitness = follow(tmp_path / "a") if (tmp_path / "a").mkdir() is None else None
    (tmp_path / "b").mkdir()
    for stop in (8, 10):
        with pytest.raises(KeyboardInterrupt):
            follow(tmp_path / "b", stop)
    again, _ = follow(tmp_path / "b")
    assert again.found == whole.found
    assert whole.scores([12]).tolist()[0] == pytest.approx(fitness(population).tolist())
    assert whole.scores(ends_of_epochs(per_epoch, 3, 2)).shape == (2, len(population))
