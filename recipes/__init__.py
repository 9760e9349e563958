"""recipes: systems made of the parts in `evonas`, `predictors` and `supernet`, one file each; `recipes.runner` runs them."""

from recipes.runner.delivery import load_model

__all__ = ["load_model"]
