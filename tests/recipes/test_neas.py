"""`evonas neas` as a user meets it: one network, one output, one file, within the budget of all members together; killed, it goes on."""

import json

import numpy as np
import pytest
import torch
from command import here, stopped_at_checkpoint

from evonas.study import open_study
from predictors import count_macs
from predictors.devices.runtime import run as run_onnx
from recipes.runner.delivery import load_model
from supernet import load
from supernet.training.ensemble import members_of

SMALL = ["--depths", "1,1,1", "--widths", "8,12,16", "--epochs", "2", "--retrain-epochs", "2", "--evaluations", "20", "--finalists", "1"]
COMMAND = ["neas", "--data", "digits", *SMALL, "--budget", "macs=60%", "--device", "cpu"]


pytestmark = pytest.mark.usefixtures("no_latency")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neas") / "run"
    done = here(*COMMAND, "--out", folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_the_ensemble_is_one_network_with_one_output(run):
    result = json.loads((run / "result.json").read_text())
    network, images = load_model(run / "model.pt"), load("digits").test.images[:8]
    assert count_macs(network, (1, 8, 8)) == result["costs"]["macs"] <= result["bounds"]["macs"]["upper"]
    with torch.no_grad():
        logits = network(images)
        torch.testing.assert_close(logits, members_of(list(network), images).mean(0))
    np.testing.assert_allclose(run_onnx(run / "model.onnx", images.numpy()), logits.numpy(), atol=1e-4)
    assert result["architecture"]["split"].startswith("after ")


def test_a_killed_run_ends_like_an_undisturbed_one(run, tmp_path):
    with stopped_at_checkpoint(2):
        assert here(*COMMAND, "--out", tmp_path / "run").returncode != 0
    assert here(*COMMAND, "--out", tmp_path / "run").returncode == 0
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, tmp_path / "run")]
    assert all(results[0][part] == results[1][part] for part in ("architecture", "accuracy"))
    trials = [[(trial.params, trial.value) for trial in open_study(f / "study.log", "search").trials] for f in (run, tmp_path / "run")]
    assert trials[0] == trials[1]
