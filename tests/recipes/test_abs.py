"""`evonas abs` as a user meets it: the space shrinks, a killed run goes on as narrow as it was, another search begins where it ended."""

import json
import shutil

import pytest
from command import here, stopped_at_checkpoint

from evonas import UsageError
from evonas.study import open_study
from recipes.abs import abs as shrinking
from recipes.mobile import mobile

SMALL = ["--depths", "1,1,1", "--widths", "8,12,16", "--epochs", "4", "--retrain-epochs", "1", "--evaluations", "12", "--finalists", "1"]
COMMAND = ["abs", "--data", "digits", *SMALL, "--stop-size", "40", "--every", "1", "--device", "cpu"]


pytestmark = pytest.mark.usefixtures("no_latency")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("abs") / "run"
    done = here(*COMMAND, "--budget", "macs=60%", "--out", folder)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "narrowed the space" in done.stdout
    return folder


def test_every_round_is_on_record(run):
    """What was dropped, and how many networks were left; what the search proposes holds no option that is gone."""
    rounds = open_study(run / "study.log", "epochs").trials
    shrunk = [trial.user_attrs["shrunk"] for trial in rounds]
    assert [trial.user_attrs["epoch"] for trial in rounds] == [1, 2]
    assert shrunk[0]["networks"] > shrunk[1]["networks"]
    assert shrunk[1]["networks"] <= 40
    gone = {(choice, option) for each in shrunk for choice, options in each["dropped"].items() for option in options}
    trials = open_study(run / "study.log", "search").trials
    assert trials
    assert not gone & {pair for trial in trials for pair in trial.params.items()}
    assert "The space shrank" in (run / "report.html").read_text()


def test_a_killed_run_goes_on_as_narrow_as_it_was(run, tmp_path):
    command = [*COMMAND, "--budget", "macs=60%", "--out", tmp_path / "run"]
    with stopped_at_checkpoint(3):
        assert here(*command).returncode != 0
    assert here(*command).returncode == 0
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, tmp_path / "run")]
    assert all(results[0][part] == results[1][part] for part in ("architecture", "accuracy"))
    for study in ("search", "baseline", "epochs"):
        trials = [[(t.params, t.value) for t in open_study(folder / "study.log", study).trials] for folder in (run, tmp_path / "run")]
        assert trials[0] == trials[1]


def test_another_search_begins_with_the_space_that_was_left(run, tmp_path):
    shutil.copytree(run, tmp_path / "first")
    done = here(*COMMAND, "--budget", "macs=90%", "--supernet", tmp_path / "first", "--out", tmp_path / "second")
    assert done.returncode == 0, done.stderr
    allowed = [{t.params[name] for folder in (run, tmp_path / "second") for t in open_study(folder / "study.log", "search").trials}
               for name in open_study(run / "study.log", "search").trials[0].params]  # fmt: skip
    networks = 1
    for options in allowed:
        networks *= len(options)
    assert networks <= 40


@pytest.mark.parametrize(
    ("recipe", "options", "said"),
    [
        (shrinking, {"score": "luck"}, "Unknown score"),
        (shrinking, {"sampler": "greedy"}, "Unknown sampler"),
        (mobile, {"shrink": "luck"}, "Unknown score"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(tmp_path, recipe, options, said):
    with pytest.raises(UsageError, match=said):
        recipe(data="digits", out=str(tmp_path / "run"), device="cpu", **options)
    assert not (tmp_path / "run").exists()
