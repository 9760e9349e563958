"""`evonas shrink`: a network of somebody's own, from its file to a delivered one, and what goes wrong on the way."""

import copy
import json

import numpy as np
import pytest
import torch
from command import here, stopped_at_checkpoint
from torch import nn

import evonas
from evonas.study import open_study
from evonas.units import format_quantity
from recipes.runner.delivery import load_model
from supernet import StandAlone, accuracy, load, train
from supernet.given.source import read

SOURCE = """
from collections import OrderedDict
from torch import nn

class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        wide = 2 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(),
            nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU(),
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return x + self.body(x)

def named():
    network = build()
    network.head = nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(7), fc=nn.Linear(7, 6)))
    return network

def build(classes=7):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Residual(16),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), Residual(32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes),
    )

def wide():
    layers = [nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 128, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))

def colour():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))

def broken():
    raise RuntimeError("no such luck")

def number():
    return 3
"""
SMALL = ["--data", "digits", "--epochs", "2", "--fine-tune-epochs", "4", "--evaluations", "30", "--device", "cpu"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    file = tmp_path_factory.mktemp("source") / "mine.py"
    file.write_text(SOURCE)
    return file


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("shrink") / "run"
    done = here("shrink", "--model", f"{source}:build", *SMALL, "--budget", "macs=50%", "--budget", "params=12k", "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_what_is_delivered_is_what_is_promised(finished, source):
    out, said = finished
    result = json.loads((out / "result.json").read_text())
    given = result["given"]["costs"]
    assert result["bounds"]["macs"]["upper"] == pytest.approx(given["macs"] / 2)
    assert result["costs"]["macs"] <= given["macs"] / 2
    assert result["costs"]["params"] <= 12_000
    assert "its classifier 10 has 7 classes, the images have 10: it is replaced" in said
    assert f"macs {format_quantity(given['macs'], '')}" in said
    source.rename(source.with_suffix(".gone"))
    try:
        network = load_model(out / "model.pt")  # without the file that the network came from
    finally:
        source.with_suffix(".gone").rename(source)
    assert accuracy(network, load("digits").test, torch.device("cpu")) == pytest.approx(result["accuracy"]["test"])
    content = torch.load(out / "model.pt", weights_only=True)
    for layer in result["layers"]:
        weight = content["weights"].get(f"0.{layer['layer']}.weight")
        assert (weight is None) == (layer["kept"] == [0, 0])
        if weight is not None:
            assert weight.shape[0] == layer["kept"][1]
            assert layer["kept"][1] <= layer["given"][1]
    assert sum(value.numel() for name, value in content["weights"].items() if not _is_statistic(name)) == result["costs"]["params"]
    assert result["teacher"]["who"] == "the given network"
    assert (out / "report.html").read_text().count("layer by layer") >= 1


def _is_statistic(name):
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


@pytest.mark.parametrize("saved", [6])
def test_a_killed_run_ends_like_an_undisturbed_one(finished, source, tmp_path, saved):
    """Stopped when it was about to write the second checkpoint of the supernet, after the four of the given network."""
    out, _ = finished
    command = ["shrink", "--model", f"{source}:build", *SMALL, "--budget", "macs=50%", "--budget", "params=12k", "--out", tmp_path / "run"]
    with stopped_at_checkpoint(saved):
        assert here(*command).returncode != 0
    assert here(*command).returncode == 0
    whole, again = (json.loads((place / "result.json").read_text()) for place in (out, tmp_path / "run"))
    assert [again[key] for key in ("architecture", "accuracy", "layers")] == [whole[key] for key in ("architecture", "accuracy", "layers")]
    trials = [[(t.params, t.value) for t in open_study(place / "study.log", "search").trials] for place in (out, tmp_path / "run")]
    assert trials[0] == trials[1]


def test_trained_weights_are_kept_and_searched_at_once(source, tmp_path):
    """With weights for these classes and no epochs, the given network is the one that was trained."""
    namespace = {}
    exec(compile(SOURCE, "mine", "exec"), namespace)
    torch.manual_seed(0)
    network = namespace["build"](10)
    train(network, StandAlone(), load("digits").train, epochs=6, batch_size=64, lr=0.1)
    expected = accuracy(network, load("digits").test, torch.device("cpu"))
    torch.save({"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, tmp_path / "w.pt")
    done = here(
        *("shrink", "--model", f"{source}:build", "--weights", tmp_path / "w.pt", *SMALL, "--epochs", "0", "--finalists", "1"),
        *("--budget", "macs=70%", "--out", tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert "is replaced" not in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["given"]["test"] == pytest.approx(expected)
    assert not (tmp_path / "run" / "original.pt").exists()
    assert result["accuracy"]["inherited"] > 0.3


def test_a_network_in_hand_is_given_from_python_and_left_as_it_is(tmp_path):
    namespace = {}
    exec(compile(SOURCE, "mine", "exec"), namespace)
    network = namespace["build"](10)
    before = copy.deepcopy(network.state_dict())
    options = {"epochs": 0, "fine_tune_epochs": 1, "evaluations": 10, "finalists": 1, "device": "cpu"}
    found = evonas.find("digits", "macs=60%", recipe="shrink", model=network, out=tmp_path / "run", **options)
    assert found.costs["macs"] <= 0.6 * found.result["given"]["costs"]["macs"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert found.network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert evonas.find("digits", "macs=60%", recipe="shrink", model=network, out=tmp_path / "run", **options).accuracy == found.accuracy


def test_a_classifier_is_replaced_whatever_its_place_is_called(source):
    for function, last in (("build", "10"), ("named", "head.fc")):
        given = read(f"{source}:{function}", None, (1, 8, 8), 10)
        assert given.said[0].startswith(f"its classifier {last} has")
        assert given.network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


BAD = {
    "no form": (["--model", "mobilenet_v2"], "expected torchvision:NAME, timm:NAME, or FILE.py:FUNCTION"),
    "unknown network": (["--model", "torchvision:mobilenet_v4"], "Unknown network of torchvision"),
    "no file": (["--model", "none.py:build"], "There is no file none.py"),
    "no function": (["--model", "{source}:bild"], "has no function 'bild'; it has Residual, named, build, wide, colour, broken, number"),
    "a file that raises": (["--model", "{source}:broken"], "failed: RuntimeError: no such luck"),
    "no network": (["--model", "{source}:number"], "gives int; expected a torch.nn.Module"),
    "grey images": (["--model", "{source}:colour"], "takes images of 3 channels, and these have 1 (grey)"),
    "no weights": (["--model", "{source}:build", "--weights", "none.pt"], "There is no file none.pt"),
    "other weights": (["--model", "{source}:build", "--weights", "{weights}"], "holds the weights of another network"),
    "rubbish": (["--model", "{source}:build", "--weights", "{source}"], "Expected a state dict"),
    "pretrained": (["--model", "{source}:build", "--weights", "pretrained"], "whose weights can be downloaded"),
    "importance": (["--model", "{source}:build", "--importance", "l3"], "importance 'l3'"),
    "unreachable": (["--model", "{source}:build", "--budget", "macs=1%"], "smallest reachable value"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "w.pt")
    arguments, words = BAD[case]
    done = here("shrink", *SMALL, "--out", "run", *(a.format(source=source, weights=tmp_path / "w.pt") for a in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_latency_is_a_share_of_what_the_given_network_takes(source, tmp_path):
    command = ["--model", f"{source}:wide", *SMALL, "--finalists", "1", "--budget", "latency=60%", "--out", tmp_path / "run"]
    command += ["--epochs", "1", "--fine-tune-epochs", "1"]
    done = here("shrink", *command)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    bound = result["bounds"]["latency"]["upper"]
    assert result["costs"]["latency"] <= bound
    assert bound == pytest.approx(0.6 * result["given"]["costs"]["latency"], rel=0.5)
    assert np.isfinite(result["latency"]["residual"]["mean"])
    (tmp_path / "run" / "result.json").unlink()
    again = here("shrink", *command)  # with the bound that it began with, whatever a measurement would say now
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["bounds"] == result["bounds"]


def test_a_front_of_the_given_network_adapts_it_once(tmp_path, source, monkeypatch):
    """Points are shares of the given network, and the runs of points take its training from the first."""
    monkeypatch.setattr("predictors.devices.runtime.measure", lambda *_: 0.5)
    front = ["--front", "macs", "--at", "40%,70%", "--deliver", "1", "--evaluations", "20", "--finalists", "1"]
    shrink = ["--model", f"{source}:build", "--data", "digits", "--fine-tune-epochs", "1", "--device", "cpu"]
    done = here("shrink", *shrink, *front, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "at-macs-70-percent"
    result = json.loads((folder / "result.json").read_text())
    assert result["costs"]["macs"] <= 0.7 * result["given"]["costs"]["macs"]
    assert (folder / "original.pt").read_bytes() == (tmp_path / "run" / "original.pt").read_bytes()
    assert not (folder / "supernet.pt").exists()
