"""`evonas gap`: runs, goes on, refuses, and writes a page."""

import itertools
import json

import numpy as np
import pytest

from evonas import UsageError
from evonas.diagnosis import Repeated, Truth, compared, diagnose
from evonas.ranking import tau
from recipes.gap import _trained_truth, gap
from recipes.runner.cli import application
from recipes.runner.pages.gap import in_one_line, write_gap_report
from recipes.runner.run_folder import RunFolder
from supernet import two_node


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A file in the form of the official one, with accuracies that follow the operators."""
    rng, content = np.random.default_rng(0), {}
    for row in itertools.product(range(3), repeat=8):
        content["".join(map(str, row))] = {"test_acc": (80 + sum(row) / 2 + rng.normal(0, 0.2, 3)).tolist(), "params": 1, "flops": 1}
    path = tmp_path_factory.mktemp("table") / "official.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    """The smallest run with a table, two supernets and a cause."""
    arguments = {
        "data": "digits",
        "space": "macro",
        "table": str(table),
        "networks": 50,
        "epochs": 1,
        "alone_epochs": 1,
        "supernets": 2,
        "causes": "CD",
        "final_steps": 2,
        "out": str(tmp_path_factory.mktemp("runs") / "gap"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recipes.gap.TrainedFitness", lambda network, images, **settings: lambda population: population.sum(axis=1) / 20)
        for name, fewer in (
            ("supernet.diagnosis.causes.CALIBRATION_IMAGES", 64),
            ("recipes.gap.NASWOT_IMAGES", 8),
        ):
            patch.setattr(name, fewer)
        gap(**arguments)
    return arguments


def test_a_table_is_the_truth(finished, table):
    from pathlib import Path

    run = Path(finished["out"])
    result = json.loads((run / "result.json").read_text())
    diagnosis = result["diagnosis"]
    assert diagnosis["truth"]["networks"] == 50
    assert diagnosis["truth"]["trainings"] == 3
    shared, alone = (np.array(result["accuracies"][side]) for side in ("shared", "alone"))
    assert diagnosis["supernet"]["tau"] == pytest.approx(tau(shared, alone))
    assert set(diagnosis["baselines"]) == {"macs", "params", "operators", "naswot", "random"}
    assert diagnosis["baselines"]["operators"]["tau"] > 0.3  # accuracies were made to follow the operators
    assert diagnosis["stability"]["steps"]["runs"] == 2
    assert [cause["name"] for cause in diagnosis["causes"]] == ["C configuration", "D size of the space"]
    beyond_noise = {cause["name"]: cause["effect"] for cause in diagnosis["causes"] if cause["interval"][0] > 0}
    assert diagnosis["largest_cause"] == max(beyond_noise, key=beyond_noise.get, default=None)
    configuration = diagnosis["causes"][0]
    assert configuration["networks"] == 24
    assert configuration["tau_present"] == pytest.approx(tau(shared[:24], alone[:24]))
    assert configuration["details"]["alone_against_truth"] > 0.8  # both were made to follow the operators
    official = json.loads(table.read_text())
    assert alone.max() <= max(np.mean(entry["test_acc"]) for entry in official.values()) / 100
    assert "Kendall tau" in in_one_line(diagnosis)


def test_the_page_shows_every_picture(finished):
    import base64
    from pathlib import Path

    run = Path(finished["out"])
    page = (run / "report.html").read_text()
    pictures = list(run.glob("gap_*.png"))
    assert len(pictures) == 5
    assert all(base64.b64encode(picture.read_bytes()).decode() in page for picture in pictures)
    for words in ("noise ceiling", "Scores that cost little", "naswot", "D size of the space", "official.json"):
        assert words in page


def test_again_it_does_nothing_new(finished, capsys):
    from pathlib import Path

    run = Path(finished["out"])
    before = {file.name: file.stat().st_mtime_ns for file in run.glob("*.pt")}
    scores = (run / "scores-0.json").read_text()
    gap(**finished)
    assert {file.name: file.stat().st_mtime_ns for file in run.glob("*.pt")} == before
    assert (run / "scores-0.json").read_text() == scores
    with pytest.raises(UsageError, match="networks=50, not 60"):
        gap(**{**finished, "networks": 60})
    (run / "report.html").unlink()
    application("gap")(["report", str(run)], standalone_mode=False)
    assert (run / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"space": "macros"}, "macro"),
        ({"way": "fairly"}, "fair"),
        ({"way": "warm-up"}, "expected --space shuffle-widths"),
        ({"way": "warm-up", "space": "shuffle-widths"}, "expected --causes BCE"),
        ({"way": "mixtures"}, "expected --causes CE"),
        ({"space": "skip"}, "have no supernet"),
        ({"table": "x.json"}, "--space two-node"),
        ({"causes": "AF"}, "'F'"),
        ({"table": "missing.json", "space": "macro"}, "missing.json"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_made(arguments, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        gap(**arguments, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_networks_trained_alone_are_the_same_for_every_seed(tmp_path, monkeypatch, digits):
    """And a truth that was interrupted goes on where it stopped."""
    calls = []

    class Counted:
        def __init__(self, family, images, *, seed, **settings):
            self.seed = seed

        def __call__(self, population):
            calls.append((self.seed, tuple(population[0].tolist())))
            if len(calls) == 80:
                raise KeyboardInterrupt
            return population @ np.array([1.0, 0.1, 0.01]) + self.seed

    monkeypatch.setattr("recipes.gap.TrainedFitness", Counted)
    settings = {"epochs": 1, "seed": 5}
    with RunFolder(tmp_path / "run", {}) as run:
        run.begin()
        with pytest.raises(KeyboardInterrupt):
            _trained_truth(run, two_node((1, 8, 8), 10, channels=4), digits, 200, 2, settings)
        truth = _trained_truth(run, two_node((1, 8, 8), 10, channels=4), digits, 200, 2, settings)
    assert len(truth.population) == 64
    assert truth.runs.shape == (64, 2)
    assert truth.runs[:, 1] - truth.runs[:, 0] == pytest.approx(np.ones(64))
    assert truth.runs[:, 0] == pytest.approx(truth.population @ np.array([1.0, 0.1, 0.01]) + 5)
    assert len(calls) == 129  # the one that was interrupted is trained again


def test_a_supernet_that_ranks_nothing_still_gets_its_page(tmp_path):
    """Equal scores everywhere: taus are not known, and the report says so."""
    space, rng = two_node((1, 8, 8), 10, channels=4).space, np.random.default_rng(0)
    truth = Truth(space.enumerate(), rng.random((64, 1)), "random")
    flat = np.ones(64)
    repeated = {name: Repeated(np.ones((3, 64)), np.arange(64)) for name in ("epochs", "steps")}
    causes = [compared("E", ("with", flat, truth.mean), ("without", flat, truth.mean))]
    baselines = {"macs": rng.random(64), "operators": flat}
    found = diagnose(space, truth, flat, baselines=baselines, features={}, repeated=repeated, causes=causes)
    (tmp_path / "config.json").write_text(json.dumps({"space": "two-node", "data": "digits"}))
    accuracies = {"shared": flat.tolist(), "alone": truth.mean.tolist()}
    (tmp_path / "result.json").write_text(json.dumps({"diagnosis": found, "accuracies": accuracies, "versions": {}}))
    page = write_gap_report(tmp_path).read_text()
    assert "Kendall tau not known" in page
    assert "no cause beyond noise" in in_one_line(found)
