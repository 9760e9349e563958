"""docs/own-space.md as printed: its space is searched, its network delivered and read, its explorer keeps the contract."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evonas import UsageError
from evonas.testing import EXPLORER_CHECKS
from recipes.runner.found import Found

SPACE, EXPLORER = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "own-space.md").read_text(), re.DOTALL)
QUICK = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
import predictors.devices.runtime
from command import quick_export
predictors.devices.runtime.export = quick_export
"""
MORE = """
import numpy as np, torch
from supernet.testing import SPACE_CHECKS
network = result.network
assert not network.training and network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
made = mixers((1, 8, 8), 10)
assert all(float(block.active(0).residual_norm.weight.detach().abs().max()) == 0 for block in made.chain[1:-1])
assert result.costs["macs"] == __import__("predictors").count_macs(network, (1, 8, 8))
exec(explorer)
searched = find("digits", "macs=50%", space="mixer", epochs=8, evaluations=20, explorer="near", from_run="runs/mixer",
                teacher="none", finalists=1, out="runs/near")
assert len(searched.study.trials) == 20 and searched.costs["macs"] <= result.result["bounds"]["macs"]["upper"]
for check in SPACE_CHECKS:
    check(lambda: mixers((1, 8, 8), 10, depth=2))
print("all of it")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"{QUICK}explorer = {EXPLORER!r}\n{SPACE}{MORE}"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all of it"
    return folder / "runs" / "mixer"


def test_a_space_takes_fewer_than_forty_lines():
    assert len(SPACE.splitlines()) < 40


def test_what_was_found_is_read_from_the_folder(run):
    found = Found(run)
    assert found.costs["macs"] <= found.result["bounds"]["macs"]["upper"]
    assert set(found.architecture) == {f"block{i}" for i in range(6)}
    assert 0.5 < found.accuracy <= 1
    assert found.costs["latency"] > 0  # of the winner alone: nothing bounded it
    assert found.result["units"]["latency"] == "ms"
    assert "latency" not in found.result["bounds"]
    assert not (run / "latency.json").exists()
    assert len(found.study.trials) == 60
    assert set(found.studies) == {"search", "baseline", "finalists"}
    assert found.report() == run / "report.html"
    assert "\n" not in repr(found)
    assert f"{100 * found.accuracy:.2f} %" in repr(found)
    assert "data:image/png;base64," in found._repr_html_()


def test_a_network_of_a_space_that_is_not_imported_is_explained(run):
    with pytest.raises(UsageError, match=r"space 'mixer', which is not registered here; expected the module that defines it"):
        _ = Found(run).network


def test_an_onnx_file_says_what_its_outputs_mean(run):
    import json

    import onnxruntime

    told = onnxruntime.InferenceSession(run / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list("0123456789")
    assert len(json.loads(told["mean"])) == len(json.loads(told["scale"])) == 1
    assert json.loads(told["architecture"]) == Found(run).architecture


def test_a_run_that_is_not_finished_says_so(tmp_path):
    assert repr(Found(tmp_path)) == f"Found({tmp_path}: not finished)"
    with pytest.raises(UsageError, match="no finished run"):
        _ = Found(tmp_path).accuracy


def test_optuna_draws_the_study(run):
    """`optuna.visualization.matplotlib` needs no extra package."""
    from optuna.visualization import matplotlib

    study = Found(run).study
    assert len(matplotlib.plot_optimization_history(study).lines) > 0
    matplotlib.plot_param_importances(study)
    matplotlib.plot_slice(study, params=["block0", "block1"])


@pytest.mark.parametrize("check", EXPLORER_CHECKS, ids=lambda check: check.__name__)
def test_the_explorer_keeps_the_contract(check):
    scope = {}
    exec(EXPLORER.partition("register_explorer(")[0].replace(", register_explorer", ""), scope)
    check(lambda space, budget, seed: scope["NearTheBest"](space, budget, seed=seed))
