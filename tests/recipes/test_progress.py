"""What a person sees before and while a run: forecasts, the bar of the whole run, bars in notebooks, a dry run."""

import sys
import time
import types

import numpy as np
import pytest
import torch
from command import here
from rich.console import Console

from recipes.runner import progress
from recipes.runner.forecast import _blocks_run, scoring_seconds, training_seconds
from recipes.runner.progress import Whole, bar, show_whole
from supernet import StandAlone, WarmUp, mbconv, shuffle

FORETOLD = {"train supernet": 100.0, "search": 50.0, "finalists": 30.0, "train winner": 20.0}


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_the_whole_run_is_the_sum_of_its_movements(clock):
    whole = Whole(FORETOLD)
    assert whole.at("train supernet", 0.0) == (0.0, 200.0)
    clock[0] += 50
    assert whole.at("train supernet", 0.5) == (0.25, 150.0)  # as fast as was foretold
    assert whole.at("search", 0.5)[0] == pytest.approx(125 / 200)
    assert whole.at("train winner", 1.0) == (1.0, 0.0)


def test_a_training_that_takes_twice_as_long_corrects_the_trainings_after_it(clock):
    whole = Whole(FORETOLD)
    whole.at("train supernet", 0.0)
    clock[0] += 100
    done, left = whole.at("train supernet", 0.5)
    assert done == 0.25
    assert left == pytest.approx(2 * 50 + 50 + 2 * (30 + 20))  # the search is no training


def test_what_goes_on_in_the_middle_is_not_mistaken_for_speed(clock):
    whole = Whole(FORETOLD)
    whole.at("train supernet", 0.9)  # trained before
    clock[0] += 10
    assert whole.at("train supernet", 1.0)[1] == pytest.approx(100.0)


def test_bars_of_one_movement_count_together(clock):
    whole = Whole(FORETOLD)
    whole.at("finalist 1 of 8", 0.0)
    clock[0] += 15
    for what in ("finalist 4 of 8", "finalist 5 of 8"):
        assert whole.at(what, 0.3) == (pytest.approx((150 + 15) / 200), pytest.approx(15 + 20))


def test_a_movement_that_was_not_foretold_changes_nothing(clock):
    whole = Whole(FORETOLD)
    before = whole.at("search", 1.0)
    assert whole.at("something else", 0.2)[0] == pytest.approx(before[0] - 0.25)
    assert whole.at("train winner", 0.0)[0] == pytest.approx(180 / 200)


def test_a_notebook_gets_bars_without_extra_packages(monkeypatch):
    shown = []

    class Handle:
        def update(self, page, raw):
            assert raw
            shown.append(page)

    def display(page, raw, display_id):
        assert raw
        assert display_id
        shown.append(page)
        return Handle()

    package, module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(progress, "console", Console(force_jupyter=True))
    monkeypatch.setattr(progress, "NOTEBOOK_PAUSE_S", 0.0)
    show_whole({"train supernet": 10.0, "search": 10.0})
    try:
        with bar("train supernet") as update:
            update(0.5, "loss <1>")
        with bar("search"):
            pass
    finally:
        show_whole(None)
    middle = next(page for page in shown if "50 %" in page["text/html"])
    assert "loss &lt;1&gt;" in middle["text/html"]
    assert "whole run" in middle["text/html"]
    assert "value='0.2500'" in middle["text/html"]
    assert "train supernet: 50 % loss <1>" in middle["text/plain"]
    assert shown[-1]["text/plain"] == ""  # nothing was searched, and nothing is left of the bar


def test_a_bar_that_did_nothing_leaves_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "console", Console(width=80))
    with bar("done before"):
        pass
    with bar("done now") as update:
        update(1.0, "loss 1.813 (labels 0.893, teacher 0.920)")
    out = capsys.readouterr().out
    assert "done before" not in out
    assert "done now" in out
    assert "loss 1.813 " in out
    assert "labels" not in out  # of 80 columns


class Slow(StandAlone):
    """A step takes a hundredth of a second at least."""

    def step(self, network, batch, moment, rng):
        time.sleep(0.01)
        return super().step(network, batch, moment, rng)


def test_a_training_is_foretold_from_a_few_steps_and_nothing_is_changed(digits):
    network, generator = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), torch.get_rng_state()
    before = [parameter.clone() for parameter in network.parameters()]
    foretold = training_seconds(network, Slow(), digits.train, epochs=30, batch_size=64, device=torch.device("cpu"))
    steps = 30 * (len(digits.train) // 64)
    assert 0.01 * steps <= foretold <= 0.2 * steps  # beside other work; 30 times as much would be the epochs counted twice
    assert all(map(torch.equal, before, network.parameters()))
    assert torch.equal(torch.get_rng_state(), generator)


def test_ways_that_need_many_epochs_are_foretold_as_well(digits):
    supernet = shuffle(digits.image_shape, 10, layout="digits", widths=("0.5", "1.0"))
    assert training_seconds(supernet, WarmUp(), digits.train, epochs=8, batch_size=512, device=torch.device("cpu")) > 0
    assert scoring_seconds(supernet, digits, 128, torch.device("cpu"))(100, 50) > 0


def test_blocks_that_networks_begin_with_alike_run_once(digits):
    supernet = mbconv(digits.image_shape, 10, depths=(1, 1, 1))
    rows = np.array([[0, 0, 0], [0, 0, 1], [0, 2, 1], [0, 2, 1]])
    assert _blocks_run(supernet, rows) == 1 + 1 + 2 + 3 + 3  # stem, three choices, a head for each that differs


@pytest.mark.parametrize(
    ("command", "movements"),
    [
        ("pnas --budget params=200k --epochs 1", ["train cells", "train random cells", "train winner"]),
        ("gap --space two-node --epochs 2", ["trainings", "supernet 2", "score networks", "causes"]),
    ],
)
def test_a_dry_run_tells_and_leaves_nothing(command, movements, tmp_path):
    done = here(*command.split(), "--data", "digits", "--dry-run", "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(movement in done.stdout for movement in [*movements, "whole run", "dry run: nothing was trained"])
    assert not (tmp_path / "run").exists()
