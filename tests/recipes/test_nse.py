"""`evonas nse` as a user meets it: rounds on record, a winner within the budget, a kill in any round, a second pool."""

import json

import numpy as np
import pytest
import torch
from command import here, stopped_at_checkpoint

from evonas.explorers.pareto import pareto_front
from evonas.study import open_study
from predictors import count_macs
from recipes.runner.delivery import load_model

SMALL = ["--depths", "1,1,1", "--widths", "8,12,16", "--epochs", "2", "--retrain-epochs", "2", "--evaluations", "16", "--finalists", "1"]
COMMAND = ["nse", "--data", "digits", *SMALL, "--operators", "4", "--rounds", "2", "--budget", "macs=50%", "--device", "cpu"]

pytestmark = pytest.mark.usefixtures("no_latency")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nse") / "run"
    done = here(*COMMAND, "--out", folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_the_winner_keeps_the_budget_and_comes_from_the_last_subspaces(run):
    result, first = (json.loads((run / name).read_text()) for name in ("result.json", "round1.json"))
    network = load_model(run / "model.pt")
    assert count_macs(network, (1, 8, 8)) == result["costs"]["macs"] <= result["bounds"]["macs"]["upper"]
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert all(len(kept) == 4 for kept in first["operators"].values())
    assert first["never_tried"] == 3 * (18 - 4)
    report = (run / "report.html").read_text()
    assert "The rounds" in report
    assert f"<td>{len(first['front'])}</td>" in report


def test_what_was_scored_for_the_front_is_in_the_studies(run):
    """The front of a round is that of its trials; its members are scored first in the next round, and their operators are still there."""
    trials = open_study(run / "study.log", "round1").trials
    costs, scores = (np.array([value(trial) for trial in trials]) for value in (lambda t: t.user_attrs["macs"], lambda t: t.value))
    front = json.loads((run / "round1.json").read_text())["front"]
    assert [entry["architecture"] for entry in front] == [trials[i].params for i in pareto_front(costs, scores)]
    following = open_study(run / "study.log", "search").trials
    assert [trial.params for trial in following[: len(front)]] == [entry["architecture"] for entry in front]
    used = {}
    for trial in following:
        for name, option in trial.params.items():
            used.setdefault(name.rsplit(".", 1)[0], set()).add(option)
    assert all(len(options - {"none"}) <= 4 for options in used.values())
    assert any(
        options - {"none"} - set(json.loads((run / "round1.json").read_text())["operators"][layer]) for layer, options in used.items()
    )


def test_a_killed_run_ends_like_an_undisturbed_one(run, tmp_path):
    """In the last round, when the first one is only on record."""
    with stopped_at_checkpoint(4):
        assert here(*COMMAND, "--out", tmp_path / "run").returncode != 0
    assert here(*COMMAND, "--out", tmp_path / "run").returncode == 0
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, tmp_path / "run")]
    assert all(results[0][part] == results[1][part] for part in ("architecture", "accuracy"))
    for study in ("round1", "search", "baseline"):
        trials = [[(t.params, t.value) for t in open_study(f / "study.log", study).trials] for f in (run, tmp_path / "run")]
        assert trials[0] == trials[1]


def test_a_second_pool_continues_a_finished_run(run, tmp_path):
    """What the first one's front used is kept; all that is tried beside is new."""
    second = ["--pool", "second", "--continue", run, "--rounds", "1", "--operators", "6"]
    done = here(*COMMAND, *second, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr + done.stdout
    trials = open_study(tmp_path / "run" / "study.log", "search").trials
    options = {option for trial in trials for option in trial.params.values()}
    assert any("_g" in option for option in options)
    before = open_study(run / "study.log", "search").trials
    upper = json.loads((run / "result.json").read_text())["bounds"]["macs"]["upper"]
    before = [trial for trial in before if trial.user_attrs["macs"] >= 0.8 * upper]
    front = pareto_front(np.array([t.user_attrs["macs"] for t in before]), np.array([t.value for t in before]))
    kept = {option for i in front for option in before[i].params.values()}
    assert {option for option in options if "_g" not in option and option != "none"} <= kept
    wrong = here(*COMMAND, *second, "--depths", "1,2,1", "--out", tmp_path / "other")
    assert wrong.returncode == 2
    assert "is no run of evonas nse" in wrong.stderr
    assert here(*COMMAND, *second[:2], "--continue", tmp_path / "nowhere", "--out", tmp_path / "other").returncode == 2
    assert not (tmp_path / "nowhere").exists()
    assert here(*COMMAND, "--operators", "19", "--out", tmp_path / "other").returncode == 2
    assert not (tmp_path / "other").exists()
