"""Imports point one way: recipes to supernet and predictors, those to evonas; and the search does without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "evonas": {"evonas"},
    "predictors": {"predictors", "evonas"},
    "supernet": {"supernet", "evonas"},
    "recipes": {"recipes", "supernet", "predictors", "evonas"},
}
NO_TORCH = "import sys, evonas, evonas.diagnosis, evonas.tables; assert 'torch' not in sys.modules"


@pytest.mark.parametrize("room", ALLOWED)
def test_no_import_against_the_arrows(room):
    files = list((ROOT / room).rglob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            reached = {name.split(".")[0] for name in names} & set(ALLOWED)
            assert reached <= ALLOWED[room], f"{file.relative_to(ROOT)} imports {reached - ALLOWED[room]}"


def test_the_search_needs_no_torch():
    assert subprocess.run([sys.executable, "-c", NO_TORCH], check=False).returncode == 0
