"""recipes: systems made of the parts in `evonas`, `predictors` and `supernet`, one file each; `recipes.runner` runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recipes.runner.registry import recipe

if TYPE_CHECKING:
    from recipes.runner.delivery import load_model

__all__ = ["load_model", "recipe"]


def __getattr__(name: str) -> Any:
    """`load_model` brings torch, which takes seconds; who asks for it gets it."""
    if name == "load_model":
        from recipes.runner.delivery import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
