"""The recipes, with what each is and where it comes from: what `evonas list` prints and the command line offers."""

from __future__ import annotations

from collections.abc import Callable

from evonas import BayesianExplorer
from evonas.explorers import register_explorer
from evonas.registry import Entry
from predictors import GaussianProcess
from recipes.flash import flash
from recipes.gap import gap
from recipes.mobile import mobile
from recipes.spos import spos

RECIPES: dict[str, Entry[Callable[..., None]]] = {
    "mobile": Entry("mobile", "a network for a budget, from images to ONNX", "Guo et al. 2019, arXiv 1904.00420", mobile),
    "spos": Entry("spos", "blocks, channels, both, or bits, by evolution on single paths", "Guo et al. 2019, arXiv 1904.00420", spos),
    "flash": Entry("flash", "25 networks trained, the rest from formulas", "Li et al. 2021, arXiv 2108.00568", flash),
    "gap": Entry("gap", "how well a supernet ranks networks, and why not better", "Zhang et al. 2020, arXiv 2001.01431", gap),
}

register_explorer(
    "bayesian",
    "upper bound of a Gaussian process; fewest evaluations",
    "Srinivas et al. 2009, arXiv 0912.3995",
    lambda s, b, seed: BayesianExplorer(s, b, predictor=GaussianProcess(s), seed=seed),
)
