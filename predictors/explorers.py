"""Explorers whose predictor lives in this room; found through the entry point `evonas.parts`."""

from __future__ import annotations

from evonas.explorers import BayesianExplorer, register_explorer
from predictors.accuracy.gaussian_process import GaussianProcess

register_explorer(
    "bayesian",
    "upper bound of a Gaussian process; fewest evaluations",
    "Srinivas et al. 2009, arXiv 0912.3995",
    lambda s, b, seed: BayesianExplorer(s, b, predictor=GaussianProcess(s), seed=seed),
)
