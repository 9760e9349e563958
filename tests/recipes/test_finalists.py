"""Finalists: what they cost, that the best goes on, and that a race which was interrupted ends as it would have."""

import dataclasses

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evonas import open_study
from evonas.testing import example
from recipes.runner import finalists as module
from recipes.runner.finalists import Halving, crown, race, rungs, told
from recipes.runner.peers import beside_random, standing
from recipes.runner.scoring import FUSED

CPU = torch.device("cpu")


@given(st.integers(1, 300), st.integers(1, 40))
def test_finalists_cost_at_most_one_training_more(epochs, count):
    plan, spent, alive = rungs(epochs, count), 0, min(count, epochs // 2)
    assert bool(plan) == (alive > 1)
    for each, kept in plan:
        assert each >= 1
        assert 1 <= kept < alive
        spent, alive = spent + alive * each, kept
    assert alive <= 1
    assert spent <= epochs
    assert not plan or spent > epochs / 2 - count  # and not much less than there is


def test_halving_keeps_the_best_that_reported_an_epoch():
    study = optuna.create_study(direction="maximize", pruner=Halving({2: 2}))
    values, trials = [0.3, 0.9, 0.9, 0.1], [study.ask() for _ in range(4)]
    for trial, value in zip(trials, values, strict=True):
        trial.report(value, 1)
        trial.report(value, 2)
    assert [trial.should_prune() for trial in trials] == [True, False, False, True]


@dataclasses.dataclass
class Trained:
    """Stands for trainings: a network is what it is worth after so many epochs, and training may be killed."""

    worth: dict
    settings: dict
    lives: int = 10**9
    trained: list = dataclasses.field(default_factory=list)

    def short(self, folder, name, what, architecture, epochs):
        if len(self.trained) == self.lives:
            raise KeyboardInterrupt
        self.trained.append((architecture, tuple(epochs)))
        return self.worth[architecture, sum(epochs)]


@pytest.fixture
def setting(monkeypatch, tmp_path):
    space, budget, _ = example()
    rows = space.sample(8, np.random.default_rng(1))
    chosen = [{"architecture": space.to_names(row)} for row in rows]
    first, second = [0.2, 0.21, 0.3, 0.22, 0.15, 0.29, 0.18, 0.1], {1: 0.4, 2: 0.55, 3: 0.41, 5: 0.6}
    keys = [tuple(row.tolist()) for row in rows]
    worth = {(key, 1): first[i] for i, key in enumerate(keys)} | {(keys[i], 3): value for i, value in second.items()}
    monkeypatch.setattr(module, "judged", lambda network, search, device: {"likelihood": network, "accuracy": 1 - network})

    def run(study, lives=10**9, ahead=0):
        training = Trained(worth, {"epochs": 20}, lives)
        try:
            return race(tmp_path, training, chosen, None, study, space, budget, CPU, ahead), training.trained
        except KeyboardInterrupt:
            return None, training.trained

    return run, space, keys


def test_the_best_of_the_better_half_wins(setting):
    run, space, keys = setting
    study = open_study(None, "finalists")
    winner, trained = run(study)
    assert winner == 5
    assert trained == [(key, (1,)) for key in keys] + [(keys[i], (1, 2)) for i in (1, 2, 3, 5)]
    crown(study, winner, 20, {"accuracy": 0.9, "likelihood": -0.4})
    crown(study, winner, 20, {"accuracy": 0.1, "likelihood": -0.1})  # told once
    killed = open_study(None, "killed")  # after the judgement, before the trial is complete
    run(killed)
    module._report(killed, killed.trials[winner]._trial_id, 23, {"accuracy": 0.9, "likelihood": -0.4})
    crown(killed, winner, 20, {"accuracy": 0.9, "likelihood": -0.4})
    assert told(killed, space) == told(study, space)
    rows_told = told(study, space)
    assert [entry["won"] for entry in rows_told] == [i == 5 for i in range(8)]
    assert rows_told[5]["likelihood"] == {"1": 0.29, "3": 0.6, "23": -0.4}
    assert rows_told[7] == {
        "architecture": space.to_names(np.array(keys[7])),
        "by_hand": False,
        "likelihood": {"1": 0.1},
        "accuracy": {"1": 0.9},
        "won": False,
    }


@pytest.mark.parametrize("lives", range(12))
def test_a_race_that_was_interrupted_judges_nothing_twice(setting, lives, tmp_path):
    run, space, _ = setting
    whole = open_study(None, "finalists")
    expected = run(whole)
    storage = tmp_path / "study.log"
    _, before = run(open_study(storage, "finalists"), lives)
    winner, after = run(open_study(storage, "finalists"))
    assert winner == expected[0]
    assert before + after == expected[1]
    assert told(open_study(storage, "finalists"), space) == told(whole, space)


def test_workers_begin_with_different_finalists_and_decide_alike(setting):
    run, space, _ = setting
    alone, shared = open_study(None, "finalists"), open_study(None, "finalists")
    expected = run(alone)
    _, before = run(shared, lives=5, ahead=3)
    winner, after = run(shared, ahead=1)
    assert winner == expected[0]
    assert sorted(before + after) == sorted(expected[1])
    assert before[0] != after[0]
    assert told(shared, space) == told(alone, space)


def test_one_finalist_needs_no_race():
    space, budget, _ = example()
    study, chosen = open_study(None, "finalists"), [{"architecture": space.to_names(np.zeros(len(space), dtype=int))}]
    assert race(None, Trained({}, {"epochs": 3}), chosen, None, study, space, budget, CPU) == 0
    assert study.trials == []


def test_the_standing_is_said_in_words():
    peers = [{"test": value} for value in (0.60, 0.62, 0.64)]
    assert standing(0.63, peers) == "ahead of 2 of 3 random networks of its budget; 63.00 % against 62.00 +- 2.00 %"
    assert "The search did not beat random search" in beside_random(1.0, {"evaluations": 9, "score": 1.5}, FUSED)
    assert "in standard deviations) is 2 against 1.5" in beside_random(2.0, {"evaluations": 9, "score": 1.5}, FUSED)
