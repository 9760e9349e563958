"""`evonas flash` as a user meets it, and a device measured and used."""

import json
import sys

import numpy as np
import pytest
import torch
from command import evonas

from predictors import MeasuredDevice, count_macs, count_params, macs, read_device, write_device
from predictors.runtime import run as run_onnx
from recipes.delivery import load_model
from supernet import load, mbconv, skip_cells

SMALL = ["--data", "digits", "--measured", "10", "--samples", "6", "--sample-epochs", "2", "--retrain-epochs", "8", "--device", "cpu"]
BUDGET = ["--budget", "accuracy=50%..", "--budget", "latency=60%", "--budget", "macs=6M"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "flash"
    done = evonas("flash", *SMALL, *BUDGET, "--out", out)
    assert done.returncode == 0, done.stderr + done.stdout
    return out, done.stdout


def test_a_run_delivers_a_network_within_the_budget(finished):
    out, printed = finished
    result = json.loads((out / "result.json").read_text())
    images = load("digits")
    family = skip_cells(images.image_shape, 10, layout="small")
    network = load_model(out / "model.pt")
    assert count_macs(network, images.image_shape) == result["costs"]["macs"] <= 6e6
    assert count_params(network, images.image_shape) == result["costs"]["params"]
    assert family.space.from_names(result["architecture"])
    pixels, labels = next(images.test.batches(500, torch.device("cpu")))
    with torch.no_grad():
        logits = network(pixels)
    assert (logits.argmax(1) == labels).double().mean().item() == pytest.approx(result["accuracy"]["test"])
    assert np.abs(run_onnx(out / "model.onnx", pixels.numpy()) - logits.numpy()).max() <= 1e-4
    assert result["search"]["calls"] <= 2000
    assert result["search"]["objective"] <= result["baseline"]["objective"]
    assert result["latency"]["measured_ms"] > 0
    for name in ("report.html", "fit.png", "latency.png", "hardware.json", "latency.csv"):
        assert (out / name).stat().st_size > 100, name
    assert "latency model: R^2" in printed
    assert "best of 20,000 random networks" in printed


def test_the_same_command_goes_on_and_another_budget_is_refused(finished):
    out, _ = finished
    before = (out / "latency.csv").read_text(), (out / "study.log").read_text(), (out / "winner.json").read_text()
    (out / "result.json").unlink()
    again = evonas("flash", *SMALL, *BUDGET, "--out", out)
    assert again.returncode == 0, again.stderr
    assert (out / "result.json").exists()
    assert before == ((out / "latency.csv").read_text(), (out / "study.log").read_text(), (out / "winner.json").read_text())
    other = evonas("flash", *SMALL, "--budget", "accuracy=60%..", "--out", out)
    assert other.returncode == 2
    assert "was made with budget=" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs a lower bound on accuracy"),
        (["--budget", "latency=1ms"], "the smallest network always wins"),
        (["--budget", "accuracy=0.5..", "--budget", "energy=1mJ"], "Unknown cost 'energy'"),
        (["--budget", "accuracy=0.5..", "--connection", "sum"], "Unknown connection"),
        (["--budget", "accuracy=0.5..", "--hardware", "nowhere.json"], "There is no file nowhere.json"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(tmp_path, arguments, said):
    done = evonas("flash", *SMALL, *arguments, "--out", tmp_path / "run", timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_device_file_gives_energy_and_area_and_nothing_is_measured(tmp_path):
    chip = tmp_path / "chip.json"
    energy, area = {"unit": "mJ", "macs": 5e-9, "activations": 1e-8}, {"unit": "mm2", "params": 1e-5}
    chip.write_text(json.dumps({"latency": {"unit": "ms", "macs": 1e-6, "layers": 0.01}, "energy": energy, "area": area}))
    budget = ["--budget", "accuracy=20%..", "--budget", "energy=70%", "--budget", "area=30mm2"]
    quick = [*SMALL[:4], "--samples", "5", "--sample-epochs", "1", "--retrain-epochs", "1", "--device", "cpu"]
    done = evonas("flash", *quick, *budget, "--hardware", chip, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["search"]["divided_by"] == ["latency", "energy", "area"]
    assert result["costs"]["area_mm2"] == pytest.approx(1e-5 * result["costs"]["params"])
    assert result["costs"]["area_mm2"] <= 30
    assert not (tmp_path / "run" / "latency.csv").exists()


def test_a_device_is_measured_by_a_command_and_searched_for(tmp_path):
    """A made-up device whose latency is the size of the file: six networks of it, another device beside, one run of `evonas mobile`."""
    devices = tmp_path / "devices"
    devices.mkdir()
    script = tmp_path / "time_it.py"
    script.write_text("import os, sys\nprint('latency', 1e-5 * os.path.getsize(sys.argv[1]) + 0.5)\n")
    space = ["--data", "digits", "--depths", "1,1,1"]
    command = f"{sys.executable} {script} {{file}}"
    supernet = mbconv((1, 8, 8), 10, depths=(1, 1, 1))
    searchable, population = supernet.space, supernet.space.sample(40, np.random.default_rng(0))
    write_device(
        devices / "known.csv", searchable, MeasuredDevice("known", population, 2 + 1e-6 * macs(searchable, supernet.parts())(population))
    )
    done = evonas("measure", *space, "--command", command, "--networks", 4, "--out", devices / "new.csv")
    assert done.returncode == 0, done.stderr
    before = read_device(devices / "new.csv", searchable)
    assert len(before.population) == 4
    more = evonas("measure", *space, "--command", command, "--networks", 6, "--out", devices / "new.csv")
    assert more.returncode == 0, more.stderr
    after = read_device(devices / "new.csv", searchable)
    assert len(after.population) == 6
    assert set(map(tuple, before.population.tolist())) <= set(map(tuple, after.population.tolist()))
    quick = ["--epochs", "1", "--retrain-epochs", "1", "--evaluations", "8", "--predictor", "nn-degree", "--device", "cpu"]
    searched = evonas(
        "mobile", *space, *quick, "--latency-table", devices / "new.csv", "--budget", "latency=60%", "--out", tmp_path / "run"
    )
    assert searched.returncode == 0, searched.stderr
    assert "latency of new: 6 measured networks and known" in searched.stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text())["latency"]["residual"]["networks"] == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "board.txt"], "no name that ends in .csv"),
        (["--out", "board.csv", "--command", "true"], "expected {file} in it"),
        (["--out", "board.csv", "--command", "no-such-program {file}"], "no-such-program gave no latency"),
        (["--out", "board.csv", "--command", "cat {file}x"], "cat ended with status 1"),
        (["--out", "board.csv", "--command", "echo {file} -3"], "printed -3.0; expected a positive number"),
    ],
)
def test_a_command_that_gives_no_latency_is_named(tmp_path, arguments, said):
    done = evonas("measure", "--data", "digits", "--depths", "1,1,1", *arguments, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.glob("*.csv"))
