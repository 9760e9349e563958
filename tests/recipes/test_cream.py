"""`evonas cream` as a user meets it: what it delivers, and its board in the study. Kills: benchmarks/kill.py and the contract of ways."""

import json

import pytest
from command import here

from evonas import UsageError
from evonas.study import open_study
from predictors import count_macs
from recipes.cream import cream
from recipes.runner.delivery import load_model
from supernet import cream as space_of_cream
from supernet import load

COMMAND = ["cream", "--data", "digits", "--budget", "macs=200k..400k", "--epochs", "4", "--retrain-epochs", "2", "--evaluations", "16"]
DEPTHS = [1, 1]  # of the range


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cream")
    space = space_of_cream((1, 8, 8), 10, depths=DEPTHS).space
    choices = {choice.name: {option: 0.1 * i for i, option in enumerate(choice.options)} for choice in space.choices}
    (folder / "phone.json").write_text(json.dumps({"device": "a phone", "unit": "ms", "constant": 0.5, "choices": choices}))
    command = [*COMMAND, "--finalists", "2", "--latency-table", str(folder / "phone.json"), "--device", "cpu"]
    done = here(*command, "--out", folder / "run")
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "run", command


def test_what_is_delivered_keeps_the_range(run):
    folder, _ = run
    result = json.loads((folder / "result.json").read_text())
    network = load_model(folder / "model.pt")
    assert count_macs(network, load("digits").image_shape) == result["costs"]["macs"]
    assert 200e3 <= result["costs"]["macs"] <= 400e3
    assert (folder / "board.png").exists()


def test_the_board_of_every_epoch_is_a_trial_and_the_search_begins_with_it(run):
    folder, _ = run
    trials = open_study(folder / "study.log", "epochs").trials
    assert [trial.user_attrs["epoch"] for trial in trials] == [0, 1, 2, 3]
    for trial in trials:
        board = trial.user_attrs["board"]
        assert len(board) == 5
        assert all(200e3 <= entry["cost"] <= 400e3 for entry in board)
        assert [entry["accuracy"] for entry in board] == sorted((entry["accuracy"] for entry in board), reverse=True)
        assert (trial.params, trial.value) == (board[0]["architecture"], board[0]["accuracy"])
    first = [trial.params for trial in open_study(folder / "study.log", "search").trials[:5]]
    assert first == [entry["architecture"] for entry in trials[-1].user_attrs["board"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": ["macs=1k"]}, "smallest network of this space costs more"),
        ({"budget": ["macs=90M..100M"]}, "largest network of this space costs less"),
        ({"budget": ["macs=1M.."]}, "has no upper end"),
        ({"depths": "1,2,3"}, "expected 2 positive numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        cream(data="digits", out=str(tmp_path / "run"), device="cpu", **options)
    assert not (tmp_path / "run").exists()
