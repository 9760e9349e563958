"""`evonas flash` as a user meets it, and a device measured and used."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from command import here

from evonas import History, UsageError
from predictors import MeasuredDevice, count_macs, count_params, macs, read_device, write_device
from predictors.devices.runtime import command_backend
from predictors.devices.runtime import run as run_onnx
from recipes.flash import flash
from recipes.runner.delivery import load_model
from recipes.runner.measure import _chosen, measure_device
from recipes.runner.pages.flash import accuracy_model
from recipes.runner.run_folder import copied_studies
from supernet import load, mbconv, skip_cells

SMALL = ["--data", "digits", "--measured", "10", "--samples", "6", "--sample-epochs", "2", "--retrain-epochs", "4", "--device", "cpu"]
BUDGET = ["--budget", "accuracy=50%..", "--budget", "latency=60%", "--budget", "macs=6M"]


def weights(network, *rest):
    """Milliseconds of a host that is not here: so much for every weight, a little more for every layer. (Real ones: test_command.py.)"""
    return 1e-6 * sum(p.numel() for p in network.parameters()) + 0.003 * len(list(network.modules()))


@pytest.fixture(scope="module", autouse=True)
def host():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("predictors.devices.runtime.measure", weights)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "flash"
    done = here("flash", *SMALL, *BUDGET, "--out", out)
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
    assert 0 < result["measured_ms"] <= result["bounds"]["latency"]["upper"]
    assert result["tried"][-1]["measured_ms"] == result["measured_ms"]
    for name in ("report.html", "fit.png", "latency.png", "hardware.json", "latency.csv"):
        assert (out / name).stat().st_size > 100, name
    assert "latency model: R^2" in printed
    assert "best of 20,000 random networks" in printed


def test_the_same_command_goes_on(finished, tmp_path):
    """A measurement lost, or the winner and the result."""
    out, _ = finished
    whole = json.loads((out / "result.json").read_text())
    for stage in ("measured", "winner"):
        run = tmp_path / stage
        shutil.copytree(out, run)
        (run / "result.json").unlink()
        (run / "winner.json").unlink()
        if stage == "measured":
            lines = (run / "latency.csv").read_text().splitlines(keepends=True)
            (run / "latency.csv").write_text("".join(lines[:-1]))
        before = (run / "study.log").read_text()
        again = here("flash", *SMALL, *BUDGET, "--out", run)
        assert again.returncode == 0, again.stderr
        result = json.loads((run / "result.json").read_text())
        assert (run / "study.log").read_text() == before, "no sample is trained again"
        if stage != "measured":  # a latency measured again is another number
            assert result["architecture"] == whole["architecture"]
            assert result["accuracy"] == whole["accuracy"]


def test_another_budget_is_searched_with_the_samples_that_are_there(finished, tmp_path):
    out, _ = finished
    run = tmp_path / "other"
    shutil.copytree(out, run)
    before = (run / "latency.csv").read_text(), (run / "study.log").read_text()
    done = here("flash", *SMALL, "--budget", "accuracy=20%..", "--budget", "macs=3M", "--out", run)
    assert done.returncode == 0, done.stderr
    result = json.loads((run / "result.json").read_text())
    assert result["costs"]["macs"] <= 3e6
    assert before == ((run / "latency.csv").read_text(), (run / "study.log").read_text())
    refused = here("flash", *SMALL, *BUDGET, "--connection", "addition", "--out", run)
    assert refused.returncode == 2
    assert "was made with connection='concatenation', not 'addition'" in refused.stderr


def test_a_front_shares_the_samples_and_every_point_keeps_its_bound(finished, tmp_path):
    """The most predicted accuracy under each bound: more than any random network that keeps it has."""
    run = tmp_path / "front"
    shutil.copytree(finished[0], run)
    done = here("flash", *SMALL, "--front", "macs", "--at", "3M,6M", "--deliver", "1", "--out", run)
    assert done.returncode == 0, done.stderr
    found = json.loads((run / "front.json").read_text())
    costs, scores = ([network[key] for network in found["front"]] for key in ("cost", "score"))
    assert (np.diff(costs) > 0).all()
    assert (np.diff(scores) > 0).all()
    family = skip_cells(load("digits").image_shape, 10, layout="small")
    with copied_studies(run, ["samples"]) as (samples,):
        model, _ = accuracy_model(family, History.of(samples, family.space))
    rows = family.space.sample(5000, np.random.default_rng(5))
    spent = family.totals(rows)["macs"]
    for cost, score in zip(costs, scores, strict=True):
        within = rows[spent <= cost]
        assert len(within) == 0 or score >= model.predict(within).max() - 1e-3
    cheap, dear = found["points"]
    assert (cheap["bound"], cheap["folder"]) == ("macs=3M", None)
    assert count_macs(load_model(run / dear["folder"] / "model.pt"), (1, 8, 8)) == dear["costs"]["macs"] <= 6e6
    assert (run / dear["folder"] / "study.log").read_text() == (run / "study.log").read_text(), "no sample is trained again"
    assert "is predicted to beat" in (run / "report.html").read_text()
    for wrong, said in (
        (["--front", "speed"], "Unknown cost for --front"),
        (["--at", "3M"], "without --front"),
        (["--front", "macs", "--at", "3ms"], "'3ms'"),
        (["--front", "macs", "--at", "6M,10"], "No network of this space meets macs <= 10"),
    ):
        refused = here("flash", *SMALL, *wrong, "--out", run)
        assert refused.returncode == 2
        assert said in refused.stderr


def test_a_point_whose_network_is_slower_than_foretold_is_searched_again(finished, tmp_path, monkeypatch):
    """By a fifth: networks are measured, the one delivered keeps the bound, and a point that nothing keeps is left out."""

    class Larger:
        """Foretells that larger networks are better."""

        def predict(self, population):
            return 1 - 1 / np.log(family.totals(population)["macs"])

    family = skip_cells(load("digits").image_shape, 10, layout="small")
    monkeypatch.setattr("recipes.flash.accuracy_model", lambda *fitted: (Larger(), 1.0))
    monkeypatch.setattr("predictors.devices.runtime.measure", lambda network, *rest: 1.2 * weights(network))
    run = tmp_path / "front"
    shutil.copytree(finished[0], run)
    done = here("flash", *SMALL, "--front", "latency", "--at", "0.0001ms,0.9ms", "--out", run)
    assert "latency=0.0001ms: No network found" in done.stdout
    assert done.returncode == 0, done.stderr
    (point,) = [point for point in json.loads((run / "front.json").read_text())["points"] if point["folder"]]
    result = json.loads((run / point["folder"] / "result.json").read_text())
    assert len(result["tried"]) > 1
    assert result["measured_ms"] <= result["bounds"]["latency"]["upper"] < result["tried"][0]["measured_ms"]


def test_the_report_is_written_again(finished):
    out, _ = finished
    (out / "report.html").unlink()
    done = here("report", out)
    assert done.returncode == 0, done.stderr
    assert "the most accuracy for its latency" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("budget", "more", "said"),
    [
        ([], {}, "needs a lower bound on accuracy"),
        (["latency=1ms"], {}, "the smallest network always wins"),
        (["accuracy=0.."], {}, "needs a lower bound on accuracy"),
        (["accuracy=70.."], {}, "accuracy lies between 0 and 1"),
        (["accuracy=0.5..", "energy=1mJ"], {}, "Unknown cost 'energy'"),
        (["accuracy=0.5..", "macs=10"], {}, "No network of this space meets macs <= 10"),
        (["accuracy=50%..", "latency=fast"], {}, "Malformed number 'fast'"),
        (["accuracy=50%..", "latency=10%..3ms", "latency=1ms"], {}, "Two bounds on 'latency'"),
        (["accuracy=0.5.."], {"connection": "sum"}, "Unknown connection"),
        (["accuracy=0.5.."], {"hardware": "nowhere.json"}, "There is no file nowhere.json"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(tmp_path, budget, more, said):
    with pytest.raises(UsageError, match=said) as error:
        flash(data="digits", budget=budget, out=str(tmp_path / "run"), device="cpu", **more)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_refusal_is_one_line_and_status_2(tmp_path):
    done = here("flash", *SMALL, "--budget", "latency=1ms", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.startswith("evonas: Accuracy per cost needs a lower bound")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_device_file_gives_energy_and_area_and_nothing_is_measured(tmp_path):
    chip = tmp_path / "chip.json"
    energy, area = {"unit": "mJ", "macs": 5e-9, "activations": 1e-8}, {"unit": "mm2", "params": 1e-5}
    chip.write_text(json.dumps({"latency": {"unit": "ms", "macs": 1e-6, "layers": 0.01}, "energy": energy, "area": area}))
    budget = ["--budget", "accuracy=20%..", "--budget", "energy=70%", "--budget", "area=30mm2"]
    quick = [*SMALL[:4], "--samples", "5", "--sample-epochs", "1", "--retrain-epochs", "1", "--device", "cpu"]
    done = here("flash", *quick, *budget, "--hardware", chip, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["search"]["divided_by"] == ["latency", "energy", "area"]
    assert result["costs"]["area"] == pytest.approx(1e-5 * result["costs"]["params"])
    assert result["costs"]["area"] <= 30
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
    done = here("measure", *space, "--command", command, "--networks", 4, "--out", devices / "new.csv")
    assert done.returncode == 0, done.stderr
    before = read_device(devices / "new.csv", searchable)
    assert len(before.population) == 4
    more = here("measure", *space, "--command", command, "--networks", 6, "--out", devices / "new.csv")
    assert more.returncode == 0, more.stderr
    after = read_device(devices / "new.csv", searchable)
    assert len(after.population) == 6
    assert set(map(tuple, before.population.tolist())) <= set(map(tuple, after.population.tolist()))
    quick = ["--epochs", "1", "--retrain-epochs", "1", "--evaluations", "8", "--predictor", "nn-degree", "--device", "cpu"]
    searched = here("mobile", *space, *quick, "--latency-table", devices / "new.csv", "--budget", "latency=60%", "--out", tmp_path / "run")
    assert searched.returncode == 0, searched.stderr
    assert "latency of new: 6 measured networks and known" in searched.stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text())["latency"]["residual"]["networks"] == 6


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("true", "expected {file} in it"),
        ("cat '{file}", "No closing quotation"),
        ("no-such-program {file}", "no-such-program gave no latency"),
        ("cat {file}x", "cat ended with status 1"),
        ("echo {file} fast", "echo gave no latency"),
        ("echo {file} -3", "printed -3.0; expected a positive number"),
    ],
)
def test_a_command_that_gives_no_latency_is_named(tmp_path, command, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        command_backend(command)(tmp_path / "network.onnx", (3, 8, 8))


def test_a_command_is_told_file_and_shape(tmp_path):
    assert command_backend("echo {file} {shape} 1.25")(tmp_path / "a network.onnx", (3, 8, 8)) == 1.25
    script = tmp_path / "count.py"
    script.write_text("import sys; print(len(sys.argv), sys.argv[1].endswith('a network.onnx'), sys.argv[2] == '3x8x8', 7)\n")
    assert command_backend(f"{sys.executable} {script} {{file}} {{shape}}")(tmp_path / "a network.onnx", (3, 8, 8)) == 7


def test_a_device_file_has_a_name_that_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"no name that ends in \.csv"):
        measure_device(out=str(tmp_path / "board.txt"))


def test_what_is_measured_first_is_spread_over_the_space_and_then_over_devices(tmp_path):
    supernet = mbconv((1, 8, 8), 10, depths=(1, 2, 1))
    space, cost = supernet.space, macs(supernet.space, supernet.parts())
    first = _chosen(supernet, tmp_path / "board1.csv", 10, 0)
    assert len(np.unique(first, axis=0)) == 10
    assert np.ptp(cost(first)) > 0.8 * np.ptp(cost(space.sample(1000, np.random.default_rng(0))))
    write_device(tmp_path / "board1.csv", space, MeasuredDevice("board1", first, 1e-5 * cost(first)))
    assert (_chosen(supernet, tmp_path / "board2.csv", 10, 0) == first).all(), "ten networks do not say yet what the others would"
    many = np.unique(space.sample(60, np.random.default_rng(1)), axis=0)
    write_device(tmp_path / "phone.csv", space, MeasuredDevice("phone", many, 1e-5 * cost(many)))
    chosen = _chosen(supernet, tmp_path / "board2.csv", 10, 0)
    assert len(np.unique(chosen, axis=0)) == 10
    assert (chosen != first).any()
