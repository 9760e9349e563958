"""Tiny runs of every recipe end with the trials, scores and winners that they ended with before the ground floor was rebuilt."""

import json

import golden
import pytest
import torch
from command import here


def same(ours, theirs):
    """Equal structure and words, numbers to 1e-6."""
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == pytest.approx(theirs, abs=1e-6) if isinstance(theirs, float) else ours == theirs


@pytest.mark.parametrize("name", golden.RUNS)
def test_a_tiny_run_ends_as_it_always_did(name, tmp_path, monkeypatch):
    recorded = json.loads(golden.FIXTURE.read_text())
    if golden.canary() != recorded["canary"]:
        pytest.skip("this processor, or this torch, rounds otherwise than the one that recorded")
    golden.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    for module in ("evonas.diagnosis", "evonas.ranking"):  # intervals are not compared, and take a third of the time
        monkeypatch.setattr(f"{module}.bootstrap", lambda *_, **__: (-1.0, 1.0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    done = here(*golden.arguments(name))
    torch.set_num_threads(threads)
    assert done.returncode == 0, done.stderr
    ours, theirs = golden.summary(name, tmp_path / name), recorded["runs"][name]
    for key in theirs:
        assert same(ours[key], theirs[key]), f"{key}: {str(ours[key])[:500]} instead of {str(theirs[key])[:500]}"
