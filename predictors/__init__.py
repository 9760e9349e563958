"""predictors: what can be known of a candidate without training it: accuracy predicted, costs counted, latency measured."""

from predictors.boosted import BoostedTrees
from predictors.costs import AdditiveCost, count_macs, count_params, macs, operators, params, tabulate
from predictors.degree_accuracy import DegreeAccuracy
from predictors.devices import KnownDevices, MeasuredDevice, read_device, read_devices, write_device
from predictors.encoding import measures, one_hot
from predictors.ensemble import Ensemble
from predictors.flash import PredictedAccuracy, flash_search
from predictors.gaussian_process import GaussianProcess
from predictors.hardware import HardwareCost, NonNegativeLinear, fit_hardware, read_hardware
from predictors.latency import LatencyTable, corrected, measure_blocks, read_table
from predictors.learned_latency import DeviceLatency, learned
from predictors.nn_degree import inverted_residual_degree, inverted_residual_mass, nn_degree, nn_mass
from predictors.normal_scores import NormalScores
from predictors.transfer import DeviceTransfer, worth_measuring
from predictors.two_level import two_level_search
from predictors.zero_cost import naswot

__all__ = [
    "AdditiveCost",
    "BoostedTrees",
    "DegreeAccuracy",
    "DeviceLatency",
    "DeviceTransfer",
    "Ensemble",
    "GaussianProcess",
    "HardwareCost",
    "KnownDevices",
    "LatencyTable",
    "MeasuredDevice",
    "NonNegativeLinear",
    "NormalScores",
    "PredictedAccuracy",
    "corrected",
    "count_macs",
    "count_params",
    "fit_hardware",
    "flash_search",
    "inverted_residual_degree",
    "inverted_residual_mass",
    "learned",
    "macs",
    "measure_blocks",
    "measures",
    "naswot",
    "nn_degree",
    "nn_mass",
    "one_hot",
    "operators",
    "params",
    "read_device",
    "read_devices",
    "read_hardware",
    "read_table",
    "tabulate",
    "two_level_search",
    "worth_measuring",
    "write_device",
]
