"""What the recipes are called and what they do, read from their source: `evonas --help` does not import them, nor torch with them."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from evonas.registry import PLUG_INS
from evonas.rooms import ROOMS

RECIPES_FOLDER = Path(__file__).parents[1]


@cache
def outlines() -> dict[str, str]:
    """The docstring of every recipe by its name, in alphabetical order.

    Those are found whose decorator names them in so many letters, `@recipe("mobile", ...)`, here and in the modules that other packages
    name as entry points. `recipes.runner.registry.RECIPES` knows all of them.
    """
    return dict(sorted(item for file in _sources() for item in _recipes(file)))


def documented(file: Path, function: str) -> str:
    """The docstring of a function at the top of a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return next(ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)


def _sources() -> Iterator[Path]:
    yield from sorted(RECIPES_FOLDER.glob("[!_]*.py"))
    for point in entry_points(group=PLUG_INS):
        top, *rest = point.module.split(".")  # only the outermost name is looked up, so that nothing is imported
        spec = importlib.util.find_spec(top) if top not in ROOMS else None
        places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
        if spec is not None and spec.origin is not None and not rest:
            yield Path(spec.origin)
        for place in places if rest else ():
            yield place.joinpath(*rest).with_suffix(".py")
            yield place.joinpath(*rest, "__init__.py")


def _recipes(file: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in function.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "recipe":
                name = call.args[0] if call.args else next((key.value for key in call.keywords if key.arg == "name"), None)
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield name.value, ast.get_docstring(function) or ""
