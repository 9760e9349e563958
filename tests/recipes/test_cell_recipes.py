"""The recipes that search cells, as a user meets them, and killed."""

import json
import shutil

import numpy as np
import pytest
import torch
from command import here, stopped_at_checkpoint
from optuna.trial import create_trial

from evonas import UsageError
from evonas.cells import cell_sizes
from evonas.study import History, open_study, space_of
from predictors import count_macs, count_params
from predictors.devices.runtime import run as run_onnx
from recipes.darts import darts
from recipes.factorized import factorized
from recipes.manas import manas
from recipes.pnas import pnas
from recipes.runner.delivery import load_model
from recipes.runner.run_folder import STUDIES, keep_copy
from recipes.setn import setn
from supernet import load, nasbench201

MS = {"none": 0.0, "skip_connect": 0.0, "nor_conv_1x1": 0.1, "nor_conv_3x3": 0.3, "avg_pool_3x3": 0.1}
SETN = ["setn", "--data", "digits", "--epochs", "3", "--retrain-epochs", "2", "--channels", "4", "--evaluations", "16", "--finalists", "2"]
MANAS = ["manas", *SETN[1:], "--space", "nasbench201", "--peers", "1", "--budget", "params=60%"]
FACTORIZED = ["factorized", *SETN[1:], "--space", "nasbench201", "--activations", "relu,tanh", "--budget", "params=60%"]
PNAS = [
    "pnas",
    "--data",
    "digits",
    "--blocks",
    "2",
    "--beam",
    "4",
    "--operators",
    "identity,sep_conv_3x3",
    "--epochs",
    "1",
    "--filters",
    "4",
]
FINAL = ["--retrain-epochs", "2", "--final-filters", "8", "--final-repeats", "1", "--budget", "params=60%"]


pytestmark = pytest.mark.usefixtures("no_latency")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The recipes, undisturbed; and their commands."""
    folder = tmp_path_factory.mktemp("cells")
    choices = dict.fromkeys(nasbench201((1, 8, 8), 10).space.names, MS)
    (folder / "phone.json").write_text(json.dumps({"device": "a phone", "unit": "ms", "constant": 0.5, "choices": choices}))
    commands = {
        "setn": [*SETN, "--budget", "macs=60%", "--latency-table", folder / "phone.json"],
        "manas": MANAS,
        "factorized": FACTORIZED,
        "pnas": [*PNAS, *FINAL],
    }
    for name, command in commands.items():
        done = here(*command, "--device", "cpu", "--out", folder / name)
        assert done.returncode == 0, done.stderr + done.stdout
        commands[name] = [*command, "--device", "cpu"]
    return folder, commands


@pytest.mark.parametrize("name", ["setn", "manas", "factorized", "pnas"])
def test_what_is_delivered_is_what_is_promised(runs, name):
    folder, _ = runs
    result = json.loads((folder / name / "result.json").read_text())
    images = load("digits")
    network = load_model(folder / name / "model.pt")
    for cost, count in (("macs", count_macs), ("params", count_params)):
        assert count(network, images.image_shape) == result["costs"][cost]
    (cost, bound), *rest = result["bounds"].items()
    assert result["costs"][cost] <= bound["upper"]
    assert not rest
    pixels, labels = next(images.test.batches(500, torch.device("cpu")))
    with torch.no_grad():
        logits = network(pixels)
    assert (logits.argmax(1) == labels).double().mean().item() == pytest.approx(result["accuracy"]["test"])
    assert np.abs(run_onnx(folder / name / "model.onnx", pixels.numpy()) - logits.numpy()).max() <= 1e-4


def test_setn_records_every_epoch(runs):
    """One trial an epoch with the recommended cell, its accuracy, its costs and the whole distribution."""
    folder, _ = runs
    trials = open_study(folder / "setn" / "study.log", "epochs").trials
    assert [trial.user_attrs["epoch"] for trial in trials] == [0, 1, 2]
    for trial in trials:
        distribution = trial.user_attrs["distribution"]
        assert {name: max(options, key=options.get) for name, options in distribution.items()} == trial.params
        assert all(sum(options.values()) == pytest.approx(1, abs=1e-4) for options in distribution.values())
        assert trial.user_attrs["macs"] > 0
    assert trials[1].user_attrs["distribution"] != trials[2].user_attrs["distribution"]
    assert len([t for t in open_study(folder / "setn" / "study.log", "search").trials if t.value is not None]) == 16


def test_manas_records_what_its_agents_played(runs):
    """One trial an epoch with what the agents recommend, their policies, and losses; a random network stands beside the winner."""
    folder, _ = runs
    trials = open_study(folder / "manas" / "study.log", "epochs").trials
    assert [trial.user_attrs["epoch"] for trial in trials] == [0, 1, 2]
    assert all(set(trial.user_attrs["held_out_loss"]) == {"recommended", "drawn", "uniform", "rounds"} for trial in trials)
    result = json.loads((folder / "manas" / "result.json").read_text())
    assert len(result["peers"]) == 1
    assert (folder / "manas" / "regret.png").exists()


def test_the_derived_network_is_a_finalist(runs):
    """With the activations that were learned, where it keeps the budget; what was derived after every epoch is on record."""
    folder, _ = runs
    trials = open_study(folder / "factorized" / "study.log", "epochs").trials
    assert len(trials) == 3
    assert all(len(trial.params) == 12 and set(trial.user_attrs["distribution"]["1<-0.activation"]) == {"relu", "tanh"} for trial in trials)
    result = json.loads((folder / "factorized" / "result.json").read_text())
    derived, bound = trials[-1], result["bounds"]["params"]["upper"]
    assert derived.user_attrs["params"] <= bound
    finalists = json.loads((folder / "factorized" / "finalists.json").read_text())["finalists"]
    assert derived.params in [entry["architecture"] for entry in finalists]


def test_pnas_grows_level_by_level(runs):
    """All 10 cells of one block, then four of two; each a trial that says its level; four random ones of the largest size beside."""
    folder, _ = runs
    study = open_study(folder / "pnas" / "study.log", "search")
    grown = History.of(study, space_of(study))
    sizes = cell_sizes(grown.population).tolist()
    assert sizes == [trial.user_attrs["level"] for trial in study.trials] == sorted(sizes)
    result = json.loads((folder / "pnas" / "result.json").read_text())
    assert [row["networks"] for row in result["levels"]] == [sizes.count(1), sizes.count(2), 4]
    assert result["accuracy"]["search"] == pytest.approx(max(trial.value for trial in study.trials))
    random = open_study(folder / "pnas" / "study.log", "baseline")
    assert {trial.params["blocks"] for trial in random.trials} == {"2"}
    assert all(trial.user_attrs["params"] <= result["bounds"]["params"]["upper"] for trial in (*study.trials, *random.trials))


@pytest.mark.parametrize(("name", "saved"), [("setn", 2), ("manas", 2), ("pnas", 1)])
def test_a_killed_run_ends_like_an_undisturbed_one(runs, tmp_path, name, saved):
    """Stopped when it was about to write its checkpoint number `saved`: after a record of an epoch, and in the winner's training."""
    folder, commands = runs
    with stopped_at_checkpoint(saved):
        assert here(*commands[name], "--out", tmp_path / name).returncode != 0
    if name == "pnas":  # and one trained network was lost
        log = (tmp_path / name / "study.log").read_text().splitlines(keepends=True)
        (tmp_path / name / "study.log").write_text("".join(log[:-3]))
    done = here(*commands[name], "--out", tmp_path / name)
    assert done.returncode == 0, done.stderr
    whole, again = (json.loads((place / name / "result.json").read_text()) for place in (folder, tmp_path))
    assert {key: again[key] for key in ("architecture", "accuracy", "costs")} == {
        key: whole[key] for key in ("architecture", "accuracy", "costs")
    }
    for study in ("search", "baseline", *(("epochs",) if name != "pnas" else ())):
        trials = [[(t.params, t.value) for t in open_study(place / name / "study.log", study).trials] for place in (folder, tmp_path)]
        assert trials[0] == trials[1]


def test_reports_are_written_again(runs, tmp_path):
    folder, _ = runs
    for name, said in (("setn", "The evaluator"), ("manas", "The agents"), ("pnas", "trained as the search")):
        shutil.copytree(folder / name, tmp_path / name)
        (tmp_path / name / "report.html").unlink()
        assert here("report", tmp_path / name).returncode == 0
        assert said in (tmp_path / name / "report.html").read_text()


@pytest.mark.parametrize(
    ("run", "options", "said"),
    [
        (setn, {"space": "mbconv"}, "Unknown space"),
        (setn, {"mode": "best"}, "Unknown mode"),
        (setn, {"space": "darts", "cells": 2}, "expected at least 3"),
        (manas, {"agents": "greedy"}, "Unknown agents"),
        (darts, {"space": "mbconv"}, "Unknown space"),
        (factorized, {"activations": "relu,gelu"}, "Unknown activation"),
        (factorized, {"activations": "relu,relu"}, "every function once"),
        (factorized, {"form": "mean"}, "Unknown form"),
        (pnas, {"operators": "none,identity"}, "leave it out"),
        (pnas, {"operators": "conv_9x9"}, "Unknown operator"),
        (pnas, {"predictor": "boosted"}, "Unknown predictor"),
        (pnas, {"preset": "tiny"}, "Unknown preset"),
        (pnas, {"budget": ["latency=1ms"]}, "Unknown cost 'latency'"),
        (pnas, {"budget": ["params=10"]}, "No network of this space meets params <= 10"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(tmp_path, run, options, said):
    with pytest.raises(UsageError, match=said):
        run(data="digits", out=str(tmp_path / "run"), device="cpu", **options)
    assert not (tmp_path / "run").exists()


def test_records_of_the_training_stay_where_the_search_is_kept_elsewhere(tmp_path):
    """The journal of a run with a storage gets a copy of the search, and keeps what was recorded while the supernet was trained."""
    own = open_study(tmp_path / "study.log", "epochs")
    own.add_trial(create_trial(params={}, distributions={}, value=0.5, user_attrs={"epoch": 0}))
    elsewhere = [open_study(None, name) for name in STUDIES]
    elsewhere[0].add_trial(create_trial(params={}, distributions={}, value=0.7))
    for _ in range(2):
        keep_copy(tmp_path, elsewhere)
        assert [trial.value for trial in open_study(tmp_path / "study.log", "epochs").trials] == [0.5]
        assert [trial.value for trial in open_study(tmp_path / "study.log", "search").trials] == [0.7]
