"""recipes: systems made of the parts in `evonas`, `predictors` and `supernet`, one file each; `recipes.runner` runs them."""

from recipes.runner.delivery import load_model
from recipes.runner.registry import recipe

__all__ = ["load_model", "recipe"]
