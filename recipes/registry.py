"""The recipes, with what each is and where it comes from: what `evonas list` prints and the command line offers."""

from __future__ import annotations

from collections.abc import Callable

from evonas.registry import Entry
from recipes.mobile import mobile

RECIPES: dict[str, Entry[Callable[..., None]]] = {
    "mobile": Entry("mobile", "a network for a budget, from images to ONNX", "Guo et al. 2019, arXiv 1904.00420", mobile),
}
