"""The recipes, with what each is and where it comes from: what `evonas list` prints and the command line offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recipes.mobile import mobile


@dataclass(frozen=True)
class Recipe:
    """A recipe as the lists show it; `run` is its command."""

    name: str
    summary: str
    paper: str
    run: Callable[..., None]


RECIPES: dict[str, Recipe] = {
    "mobile": Recipe("mobile", "a network for a budget, from images to ONNX", "Guo et al. 2019, arXiv 1904.00420", mobile),
}
