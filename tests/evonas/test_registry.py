"""Lists of parts: complete whatever was imported before, open to other packages, and clear about what is wrong."""

import subprocess
import sys

import pytest

from evonas import EXPLORERS, UsageError
from evonas.registry import Entry, Registry

LISTED = "from {} import {}; print(list({}))"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("evonas", "EXPLORERS"),
        ("supernet.spaces.registry", "SPACES"),
        ("supernet.training.registry", "WAYS"),
        ("predictors.screens", "SCREENS"),
        ("recipes.runner.registry", "RECIPES"),
    ],
)
def test_a_list_is_complete_whatever_was_imported(module, name):
    """Asked first of all things in a new interpreter, it holds what it holds here."""
    done = subprocess.run([sys.executable, "-c", LISTED.format(module, name, name)], capture_output=True, text=True, check=True)
    here = {}
    exec(f"from {module} import {name}; here['found'] = list({name})", {"here": here})
    assert done.stdout.strip() == str(here["found"])
    assert here["found"] == sorted(here["found"])
    assert len(here["found"]) > 2


def test_bayesian_is_there_without_recipes():
    assert "bayesian" in EXPLORERS


def test_names_are_taken_once_and_unknown_ones_get_the_nearest():
    parts = Registry("part", "evonas.explorers")
    parts.add(Entry("one", "", "", len))
    parts.add(Entry("one", "", "", len))
    with pytest.raises(UsageError, match="two of the part 'one'"):
        parts.add(Entry("one", "", "", max))
    with pytest.raises(UsageError, match="Did you mean 'one'"):
        parts.pick("on")


def test_a_broken_package_is_left_out_and_named(tmp_path):
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (tmp_path / "broken-1.0.dist-info" / "entry_points.txt").write_text("[evonas.parts]\nbroken = broken_module\n")
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('half-finished')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from evonas import EXPLORERS; print(len(EXPLORERS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(EXPLORERS)
    assert "'broken' (broken_module) are left out, they cannot be imported: RuntimeError: half-finished" in done.stderr
