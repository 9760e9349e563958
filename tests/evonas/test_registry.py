"""Lists of parts: complete whatever was imported before, open to other packages, and clear about what is wrong."""

import json
import subprocess
import sys

import pytest

from evonas import EXPLORERS, UsageError
from evonas.registry import Entry, Registry
from supernet import UniformPaths
from supernet.training.registry import way

LISTS = [
    ("evonas", "EXPLORERS"),
    ("supernet.spaces.registry", "SPACES"),
    ("supernet.training.registry", "WAYS"),
    ("predictors.screens", "SCREENS"),
    ("recipes.runner.registry", "RECIPES"),
]


def listed(order):
    """What every list holds in a new interpreter that asks for them in this order."""
    code = "; ".join(f"from {module} import {name}; found[{name!r}] = list({name})" for module, name in order)
    code = f"import json; found = {{}}; {code}; print(json.dumps(found))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_a_list_is_complete_whatever_was_imported():
    found = listed(LISTS)
    assert found == listed(LISTS[::-1])
    assert all(names == sorted(names) and len(names) > 2 for names in found.values())


def test_bayesian_is_there_without_recipes():
    assert "bayesian" in EXPLORERS


def test_names_are_taken_once_and_unknown_ones_get_the_nearest():
    parts = Registry("part", "evonas.explorers")
    parts.add(Entry("one", "", "", len))
    parts.add(Entry("one", "", "", len))
    with pytest.raises(UsageError, match="two of the part 'one'"):
        parts.add(Entry("one", "", "", max))
    parts.add(Entry("two", "", "", lambda: 1))
    with pytest.raises(UsageError, match="two of the part 'two'"):
        parts.add(Entry("two", "", "", lambda: 2))
    with pytest.raises(UsageError, match="two of the way 'uniform'"):

        @way("uniform", summary="mine")
        class Mine(UniformPaths):
            pass

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
