"""Finalists: what they cost, that the best goes on, and that a race which was interrupted ends as it would have."""

import dataclasses

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evonas import UsageError, open_study
from evonas.testing import example
from recipes.runner import finalists as module
from recipes.runner.finalists import Halving, crown, race, rungs, told
from recipes.runner.peers import beside_random, standing

CPU = torch.device("cpu")


@given(st.integers(1, 300), st.integers(1, 40))
def test_finalists_cost_at_most_one_training_more(epochs, count):
    if count > epochs:
        with pytest.raises(UsageError, match=f"expected 1 to {epochs}"):
            rungs(epochs, count)
        return
    keep = rungs(epochs, count)
    spent, before, alive = 0, 0, count
    for epoch, kept in keep.items():
        assert epoch > before
        assert 1 <= kept <= alive
        spent, before, alive = spent + alive * (epoch - before), epoch, kept
    assert alive == 1
    assert spent + (epochs - before) <= 2 * epochs
    assert count == 1 or set(keep.values()) <= {1, 2}


def test_halving_keeps_the_best_that_reported_an_epoch():
    study = optuna.create_study(direction="maximize", pruner=Halving({2: 2}))
    values, trials = [0.3, 0.9, 0.9, 0.1], [study.ask() for _ in range(4)]
    for trial, value in zip(trials, values, strict=True):
        trial.report(value, 1)
        trial.report(value, 2)
    assert [trial.should_prune() for trial in trials] == [True, False, False, True]


@dataclasses.dataclass
class Trained:
    """Stands for final trainings: a network is what it is worth after so many epochs, and training may be killed."""

    worth: dict
    settings: dict
    lives: int = 10**9
    trained: list = dataclasses.field(default_factory=list)

    def train(self, path, what, architecture, stop_after=None):
        if len(self.trained) == self.lives:
            raise KeyboardInterrupt
        self.trained.append((architecture, stop_after))
        return self.worth[architecture, stop_after]


@pytest.fixture
def setting(monkeypatch, tmp_path):
    space, budget, _ = example()
    rows = space.sample(8, np.random.default_rng(1))
    chosen = [{"architecture": space.to_names(row)} for row in rows]
    first = {0: -2.0, 1: -1.9, 2: -1.0, 3: -1.8, 4: -2.5, 5: -1.1, 6: -2.2, 7: -3.0}
    worth = {(tuple(row.tolist()), 2): first[i] for i, row in enumerate(rows)}
    worth |= {(tuple(rows[2].tolist()), 4): -0.9, (tuple(rows[5].tolist()), 4): -0.8, (tuple(rows[5].tolist()), 10): -0.5}
    monkeypatch.setattr(module, "judged", lambda network, search, device: {"likelihood": network, "accuracy": 1 + network / 10})

    def run(study, lives=10**9):
        training = Trained(worth, {"epochs": 20}, lives)
        try:
            return race(tmp_path, training, chosen, None, study, space, budget, CPU), training.trained
        except KeyboardInterrupt:
            return None, training.trained

    return run, space, rows


def test_the_best_of_the_first_two_goes_on(setting):
    run, space, rows = setting
    study = open_study(None, "finalists")
    winner, trained = run(study)
    assert winner == 5
    assert [epochs for _, epochs in trained] == [2] * 8 + [4] * 2 + [10]
    crown(study, winner, 20, {"likelihood": -0.4, "accuracy": 0.9})
    crown(study, winner, 20, {"likelihood": -0.1, "accuracy": 0.9})  # told once
    rows_told = told(study, space)
    assert [entry["won"] for entry in rows_told] == [i == 5 for i in range(8)]
    assert rows_told[5]["likelihood"] == {"2": -1.1, "4": -0.8, "10": -0.5, "20": -0.4}
    assert rows_told[7] == {"architecture": space.to_names(rows[7]), "likelihood": {"2": -3.0}, "accuracy": {"2": 0.7}, "won": False}


@pytest.mark.parametrize("lives", range(11))
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


def test_the_standing_is_said_in_words():
    peers = [{"test": value} for value in (0.60, 0.62, 0.64)]
    assert standing(0.63, peers) == "ahead of 2 of 3 random networks of its budget; 0.6300 against 0.6200 +- 0.0200"
    assert "The search did not beat random search" in beside_random(1.0, {"evaluations": 9, "score": 1.5})
    assert "The search beat random search with as many evaluations (9): 2.00 against 1.50" in beside_random(
        2.0, {"evaluations": 9, "score": 1.5}
    )
