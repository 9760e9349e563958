"""`evonas netadaptv2` as a user meets it: it comes down to the budget, goes on after a kill, and says where it did not come down."""

import json

import numpy as np
import pytest
from command import here, stopped_at_checkpoint

from evonas.study import History, open_study, space_of
from predictors import count_macs
from recipes.netadaptv2 import netadaptv2
from recipes.runner.delivery import load_model

SMALL = ["--depths", "1,2,1", "--widths", "16,20,24", "--epochs", "3", "--retrain-epochs", "2", "--finalists", "2", "--device", "cpu"]
COMMAND = ["netadaptv2", "--data", "digits", *SMALL, "--samples", "8", "--step", "0.2", "--budget", "macs=40%"]


pytestmark = pytest.mark.usefixtures("no_latency")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("netadaptv2") / "run"
    done = here(*COMMAND, "--evaluations", "60", "--out", folder)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "note: the descent ended" not in done.stdout
    assert "log-likelihood with inherited weights, in nats" in done.stdout
    return folder


def test_the_search_begins_with_the_largest_and_ends_within_the_budget(run):
    study = open_study(run / "study.log", "search")
    history = History.of(study, space_of(study))
    by_hand = [bool(trial.user_attrs.get("first")) for trial in study.trials]
    largest = history.population[by_hand.index(False)]
    assert all(choice.options[option] == choice.options[-1] for choice, option in zip(history.space.choices, largest, strict=True))
    costs = np.array([trial.user_attrs["macs"] for trial in study.trials])
    result = json.loads((run / "result.json").read_text())
    bound = result["bounds"]["macs"]["upper"]
    begun = by_hand.index(False)
    assert costs[begun] > bound
    assert np.median(costs[begun + 1 : begun + 9]) > bound  # the first step is on its way
    assert (costs[-8:] <= bound).all()
    assert result["costs"]["macs"] <= bound
    assert "Scores are log-likelihood with inherited weights, in nats" in " ".join((run / "report.html").read_text().split())
    assert count_macs(load_model(run / "model.pt"), (1, 8, 8)) == result["costs"]["macs"]


def test_a_killed_run_ends_like_an_undisturbed_one(run, tmp_path):
    command = [*COMMAND, "--evaluations", "60", "--out", tmp_path / "run"]
    with stopped_at_checkpoint(2):
        assert here(*command).returncode != 0
    assert here(*command).returncode == 0
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, tmp_path / "run")]
    assert all(results[0][part] == results[1][part] for part in ("architecture", "accuracy", "finalists"))


def test_a_descent_that_is_too_short_says_so(run, tmp_path):
    done = here(*COMMAND, "--evaluations", "14", "--supernet", run, "--out", tmp_path / "short")
    assert done.returncode == 0, done.stderr
    assert "note: the descent ended at 2." in done.stdout
    assert "times the budget; expected more evaluations, or larger steps" in done.stdout


def test_without_a_budget_there_is_nowhere_to_go(tmp_path):
    done = here("netadaptv2", "--data", "digits", "--out", tmp_path / "run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "A descent ends at a budget" in done.stderr
    assert netadaptv2.__doc__
