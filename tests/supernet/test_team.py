"""Many processes: shares of a batch, and a whole recipe under torchrun. That a team trains what one process trains is a contract of ways
(test_way_contracts.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from supernet import load, mbconv
from supernet.data import ALL

QUICK = str(Path(__file__).parents[1] / "recipes" / "quick.py")


def torchrun(processes):
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


def test_shares_make_up_the_whole_batch():
    part, cpu = load("digits").train.head(100), torch.device("cpu")
    whole = list(part.epoch(30, (1, 2), cpu, ALL))
    shares = [list(part.epoch(30, (1, 2), cpu, (k, 3))) for k in range(3)]
    assert len(whole) == 3
    for step, (images, labels) in enumerate(whole):
        for k in range(3):
            assert torch.equal(shares[k][step][0], images[k::3])
            assert torch.equal(shares[k][step][1], labels[k::3])


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    from evonas import UsageError
    from supernet import StandAlone, mbconv, train
    from supernet.training import team

    monkeypatch.setattr(team, "size", lambda: 3)
    digits = load("digits")
    with pytest.raises(UsageError, match="batch of 64 images does not divide over 3 processes"):
        train(mbconv(digits.image_shape, 10, depths=(1, 1, 1)), StandAlone(), digits.train, epochs=1, batch_size=64)


def test_a_recipe_ends_with_the_same_network_whoever_helps(tmp_path):
    """`evonas mobile` alone and with two processes: supernet, search and winner agree."""
    import json

    space = mbconv((1, 8, 8), 10, depths=(1, 1, 1)).space
    choices = {c.name: {option: 0.1 * (i + 1) for i, option in enumerate(c.options)} for c in space.choices}
    (tmp_path / "board.json").write_text(json.dumps({"device": "board", "unit": "ms", "constant": 0.1, "choices": choices}))
    arguments = "--data digits --depths 1,1,1 --epochs 1 --retrain-epochs 1 --lr 0.01 --evaluations 20 --predictor none --finalists 1"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}

    def start(name, *launcher):
        command = [sys.executable, *launcher, QUICK, "mobile", *arguments.split(), "--latency-table", "board.json", "--out", name]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)

    def result(name, process):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-2000:]
        return json.loads((tmp_path / name / "result.json").read_text())

    alone, together = start("alone"), start("together", *torchrun(2))
    results = [result("alone", alone), result("together", together)]
    assert results[0]["architecture"] == results[1]["architecture"]
    assert results[0]["accuracy"] == pytest.approx(results[1]["accuracy"], abs=0.01)
    weights = [torch.load(tmp_path / name / "supernet.pt")["network"] for name in ("alone", "together")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-3, msg=name)
