"""A recipe with a space, a way and a cost of its own in one file, elsewhere, as a user would write it: found, run, killed, delivered."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import QUICK

from evonas import Budget, profile
from predictors import count_macs, count_params, macs, params
from supernet.testing import SPACE_CHECKS, WAY_CHECKS, team_of_two_equals_one

SOURCE = Path(__file__).with_name("user_recipe.py")
COMMAND = "sandwich --data digits --epochs 2 --evaluations 50 --budget elements=50% --device cpu --out run"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder with the file, installed as a package that names it under the entry point."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copy(SOURCE, folder / "mine.py")
    (folder / "mine-1.0.dist-info").mkdir()
    (folder / "mine-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (folder / "mine-1.0.dist-info" / "entry_points.txt").write_text("[evonas.parts]\nmine = mine\n")
    return folder


@pytest.fixture(scope="module")
def mine():
    specification = importlib.util.spec_from_file_location("mine", SOURCE)
    module = importlib.util.module_from_spec(specification)
    sys.modules["mine"] = module
    specification.loader.exec_module(module)
    return module


def start(folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(folder)}
    command = [*QUICK, *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder, *arguments):
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_it_takes_one_file_of_moderate_length():
    assert len(SOURCE.read_text().splitlines()) <= 130


def test_it_is_found_searched_delivered_and_goes_on_after_a_kill(elsewhere):
    listing, undisturbed = start(elsewhere, "list"), start(elsewhere, *COMMAND.replace("--out run", "--out whole").split())
    assert "sliced and bypassed widths" in listing.communicate(timeout=100)[0]
    process = start(elsewhere, *COMMAND.split())
    while not (elsewhere / "run" / "supernet.pt").exists():  # its first epoch is over
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    printed = finish(elsewhere, *COMMAND.split())
    result = json.loads((elsewhere / "run" / "result.json").read_text())
    assert result["recipe"] == "sandwich"
    assert result["costs"]["elements"] <= result["bounds"]["elements"]["upper"]
    assert "elements" in printed
    assert undisturbed.wait(300) == 0, undisturbed.stderr.read()
    for name in ("winner.json", "supernet.losses.json"):
        assert (elsewhere / "run" / name).read_text() == (elsewhere / "whole" / name).read_text(), name
    check = (
        "import numpy as np, torch, onnxruntime, recipes; network = recipes.load_model('run/model.pt'); images = torch.randn(3, 1, 8, 8); "
        "found = onnxruntime.InferenceSession('run/model.onnx').run(None, {'images': images.numpy()})[0]; "
        "assert np.abs(found - network(images).detach().numpy()).max() < 1e-4"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(elsewhere)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("check", SPACE_CHECKS, ids=lambda check: check.__name__)
def test_the_space_keeps_the_contract(check, mine):
    check(lambda: mine.sliced((1, 8, 8), 10))


@pytest.mark.parametrize("check", [c for c in WAY_CHECKS if c is not team_of_two_equals_one], ids=lambda check: check.__name__)
def test_the_way_keeps_the_contract(check, mine):
    check(lambda supernet: mine.Ends())


@pytest.mark.serial
def test_costs_with_a_running_state(mine, rng):
    """What a block costs depends on the channels that arrive: equal to counted costs, exact at both ends, fast."""
    supernet = mine.sliced((1, 8, 8), 10, blocks=5)
    parts = supernet.parts()
    population = supernet.space.sample(100, rng)
    for cost, count in ((macs(supernet.space, parts), count_macs), (params(supernet.space, parts), count_params)):
        np.testing.assert_array_equal(cost(population), [count(supernet.subnet(row), (1, 8, 8)) for row in population])
        everything = cost(supernet.space.enumerate())
        assert [cost(np.array([row]))[0] for row in cost.extremes(supernet.space)] == [everything.min(), everything.max()]
    ranges = profile(supernet.space, Budget({"macs": macs(supernet.space, parts)})).ranges
    assert ranges[0].exact
    large = mine.sliced((1, 8, 8), 10, blocks=20)
    cost, million = macs(large.space, large.parts()), large.space.sample(1_000_000, rng)
    begun = time.perf_counter()
    cost(million)
    assert time.perf_counter() - begun < 2
