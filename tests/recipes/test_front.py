"""`evonas mobile --front` and `evonas pick` as a user meets them: several networks of one search, each within its bound."""

import json
import shutil

import numpy as np
import pytest
from browser import CLICK, needs_browser, seen
from command import here, stopped_at_checkpoint

from evonas.study import History, open_study, space_of
from predictors import count_macs
from recipes.runner.delivery import load_model
from recipes.runner.found import Found

SMALL = ["--depths", "1,2,1", "--widths", "8,12,16", "--epochs", "2", "--retrain-epochs", "2", "--finalists", "2", "--device", "cpu"]
COMMAND = ["mobile", "--data", "digits", *SMALL, "--evaluations", "30", "--front", "macs"]
POINTS = ["--at", "220k,400k", "--deliver", "1"]

pytestmark = pytest.mark.usefixtures("no_latency")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("front") / "run"
    done = here(*COMMAND, *POINTS, "--out", folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_the_front_is_that_of_the_search(run):
    study = open_study(run / "study.log", "search")
    history = History.of(study, space_of(study))
    assert len(history.scored) == 30
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    points = [(trial.values[1], trial.values[0]) for trial in study.trials if trial.values is not None]
    beaten = [any(m <= macs and s >= score and (m, s) != (macs, score) for m, s in points) for macs, score in points]
    front = sorted(point for point, worse in zip(points, beaten, strict=True) if not worse)
    found = json.loads((run / "front.json").read_text())
    assert [(network["cost"], network["score"]) for network in found["front"]] == front


def test_the_dashboard_has_a_note_of_what_was_delivered(run):
    get_note = pytest.importorskip("optuna_dashboard").get_note
    study = open_study(run / "study.log", "search")
    test = json.loads((run / "at-macs-400k" / "result.json").read_text())["accuracy"]["test"]
    assert f"`macs=400k`: **{100 * test:.2f} %**" in get_note(study)
    assert study.user_attrs["images"] == "digits"
    point = open_study(run / "at-macs-400k" / "study.log", "search")
    assert f"**{100 * test:.2f} %**" in get_note(point)
    result = json.loads((run / "at-macs-400k" / "result.json").read_text())
    won = next(entry["trial"] for entry in result["tried"] if entry["architecture"] == result["architecture"])
    kept = point._storage.get_study_system_attrs(point._study_id)
    noted = [trial for trial in point.trials if f"dashboard:{trial._trial_id}:note_ver" in kept]
    assert [trial.number for trial in noted] == [won]


def test_points_keep_their_bounds_and_share_what_was_trained(run):
    cheap, dear = json.loads((run / "front.json").read_text())["points"]
    assert (cheap["bound"], cheap["folder"]) == ("macs=220k", None)  # the dearest first
    folder = run / dear["folder"]
    assert count_macs(load_model(folder / "model.pt"), (1, 8, 8)) == dear["costs"]["macs"] <= 400_000
    assert [file.parent for pattern in ("supernet.pt", "teacher.pt") for file in run.rglob(pattern)] == [run, run]
    known = open_study(run / "study.log", "search").trials
    again = open_study(folder / "study.log", "search").trials
    best = max((trial for trial in known if trial.user_attrs["macs"] <= 400_000), key=lambda trial: trial.values[0])
    assert again[0].params == best.params


def test_another_point_is_picked_later(run):
    done = here("pick", run, "--budget", "macs=220k", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    result = json.loads((run / "pick-macs-220k" / "result.json").read_text())
    assert count_macs(load_model(run / "pick-macs-220k" / "model.pt"), (1, 8, 8)) == result["costs"]["macs"] <= 220_000
    report = (run / "report.html").read_text()
    assert "pick-macs-220k/report.html" in report
    assert "Not trained yet: <code>macs=220k</code>" in report
    assert [found.costs["macs"] <= bound for found, bound in zip(Found(run).front, (400_000, 220_000), strict=True)] == [True, True]
    before = (run / "front.json").read_text()
    assert here("report", run).returncode == 0
    assert here(*COMMAND, *POINTS, "--out", run).returncode == 0
    assert (run / "front.json").read_text() == before


def test_a_killed_run_ends_like_an_undisturbed_one(run, tmp_path):
    command = [*COMMAND, *POINTS, "--out", tmp_path / "run"]
    with stopped_at_checkpoint(6):  # two epochs of the supernet, two of the teacher, two of a finalist's or the winner's: in a point
        assert here(*command).returncode != 0
    assert not (tmp_path / "run" / "front.json").exists()
    assert (tmp_path / "run" / "at-macs-400k" / "study.log").exists()
    assert here(*command).returncode == 0
    fronts = [json.loads((folder / "front.json").read_text()) for folder in (run, tmp_path / "run")]
    assert fronts[0] == fronts[1]


def test_spread_points_are_within_the_front_and_nothing_is_trained_without_being_asked_for(tmp_path):
    done = here(*COMMAND, "--deliver", "none", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "front.json").read_text())
    costs = [network["cost"] for network in found["front"]]
    bounds = [float(point["bound"].removeprefix("macs=")) for point in found["points"]]
    assert len(bounds) == 5
    assert np.all(np.diff(bounds) > 0)
    assert min(costs) < bounds[0]
    assert max(costs) <= bounds[-1] <= 1.002 * max(costs)
    assert not list(tmp_path.rglob("model.pt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobile", "--at", "1M"], "without --front"),
        (["mobile", "--front", "macs", "--deliver", "some"], "expected all, none, or a number"),
        (["mobile", "--front", "macs", "--at", "fast"], "fast"),
        ([*COMMAND, "--at", "1"], "No network of this space meets macs <= 1"),
        (["mobile", "--data", "digits", "--front", "speed"], "expected one of: latency, macs, params"),
        (["mobile", "--data", "digits", "--known", "nowhere"], "no trials of a search in nowhere"),
        (["pick", "nowhere", "--budget", "macs=1M"], "There is no run in nowhere"),
    ],
)
def test_what_does_not_belong_together_is_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = here(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_run_that_goes_on_takes_the_table_of_the_same_device_only(run, tmp_path, monkeypatch):
    """Of the first run where the device is the same; a file of another device is read."""
    from recipes.runner import movements

    read = []

    class Enough(Exception):
        pass

    def reading(path, space):
        read.append(str(path))
        raise Enough

    monkeypatch.setattr(movements, "read_table", reading)
    (run / "latency.json").write_text("{}")
    (tmp_path / "phone.json").write_text("{}")
    more = ["mobile", "--data", "digits", *SMALL, "--known", run, "--budget", "latency=60%", "--dry-run", "--out", tmp_path / "x"]
    here(*more)
    here(*more, "--latency-table", tmp_path / "phone.json")
    (run / "latency.json").unlink()
    assert read == [str(run / "latency.json"), str(tmp_path / "phone.json")]


@needs_browser
def test_a_click_on_a_point_draws_the_network_and_nothing_is_fetched(run, tmp_path):
    """The page is one file: with the network cut off, a real click in a browser shows the very network of that trial."""
    found = seen(run / "report.html", CLICK % (0, "search", 4), tmp_path)
    assert (found["hidden"], found["fetched"]) == (False, [])
    number = int(found["said"].split("trial ")[1].split(":")[0])  # of points that lie on one another the topmost
    scored = [trial for trial in open_study(run / "study.log", "search").trials if trial.values is not None]
    trial = next(trial for trial in scored if trial.number == number)
    near = scored[4].user_attrs
    assert (trial.user_attrs["macs"], trial.user_attrs["accuracy"]) == pytest.approx((near["macs"], near["accuracy"]), rel=0.03)
    assert found["boxes"] == list(trial.params.values())


def test_runs_are_compared_on_one_page(run, tmp_path):
    point = run / "at-macs-400k"
    done = here("compare", run, point, "--out", tmp_path / "both.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "both.html").read_text()
    test = json.loads((point / "result.json").read_text())["accuracy"]["test"]
    assert page.count(f"{100 * test:.2f} &plusmn;") == 2  # once by itself, once as what the front delivered
    other = tmp_path / "other"  # as an earlier version wrote it, of another device
    shutil.copytree(point, other)
    result = json.loads((other / "result.json").read_text())
    del result["recipe"], result["input"], result["pieces"]
    result["latency"] = {"device": "a <b>phone</b>", "residual": None}
    (other / "result.json").write_text(json.dumps(result))
    assert here("compare", point, other, "--out", tmp_path / "old.html").returncode == 0
    page = (tmp_path / "old.html").read_text()
    assert "Latencies are of different devices" in page
    assert "a &lt;b&gt;phone&lt;/b&gt;" in page
    assert page.count("&plusmn;") == 2  # in one row, and where it is explained: nobody knows how many images tested the other
    for arguments, message in (
        ([run, point, "--out", tmp_path / "no" / "page.html"], "There is no folder"),
        ([run], "expected at least two"),
        ([run, run], "One run was given twice"),
        ([run, tmp_path], "There is no finished run"),
        ([run, point, "--out", tmp_path / "both.txt"], "expected the name of a page"),
    ):
        done = here("compare", *arguments)
        assert done.returncode == 2
        assert message in done.stderr
