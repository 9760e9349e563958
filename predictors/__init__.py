"""predictors: what can be known of a candidate without training it: accuracy predicted, costs counted, latency measured."""

from predictors.boosted import BoostedTrees
from predictors.costs import AdditiveCost, count_macs, count_params, macs, params, tabulate
from predictors.encoding import one_hot
from predictors.ensemble import Ensemble
from predictors.gaussian_process import GaussianProcess
from predictors.latency import LatencyTable, corrected, measure_blocks, read_table

__all__ = [
    "AdditiveCost",
    "BoostedTrees",
    "Ensemble",
    "GaussianProcess",
    "LatencyTable",
    "corrected",
    "count_macs",
    "count_params",
    "macs",
    "measure_blocks",
    "one_hot",
    "params",
    "read_table",
    "tabulate",
]
