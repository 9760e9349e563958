"""Explorers whose predictor lives in this room; found through the entry point `evonas.parts`."""

from __future__ import annotations

from evonas.explorers import BayesianExplorer, ParetoBayesianExplorer, register_explorer
from predictors.accuracy.gaussian_process import GaussianProcess

register_explorer(
    "bayesian",
    "upper bound of a Gaussian process; fewest evaluations",
    "Srinivas et al. 2009, arXiv 0912.3995",
    lambda s, b, seed: BayesianExplorer(s, b, predictor=GaussianProcess(s), seed=seed),
)
register_explorer(
    "pareto-bayesian",
    "what enlarges the front of accuracy against costs most",
    "Emmerich et al. 2006, IEEE TEC 10(4)",
    lambda s, b, seed: ParetoBayesianExplorer(s, b, predictor=GaussianProcess(s), seed=seed),
)
