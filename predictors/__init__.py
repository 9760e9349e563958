"""predictors: what can be known of a candidate without training it: accuracy predicted, costs counted, latency measured."""

from evonas.tables import AdditiveCost, tabulate
from predictors.accuracy.boosted import BoostedTrees
from predictors.accuracy.encoding import measures, one_hot
from predictors.accuracy.ensemble import Ensemble
from predictors.accuracy.gaussian_process import GaussianProcess
from predictors.accuracy.normal_scores import NormalScores
from predictors.accuracy.zero_cost import naswot
from predictors.costs import count_macs, count_params, macs, operators, params
from predictors.devices.known import KnownDevices, MeasuredDevice, read_device, read_devices, write_device
from predictors.devices.learned import DeviceLatency, learned
from predictors.devices.table import LatencyTable, corrected, measure_blocks, read_table
from predictors.devices.transfer import DeviceTransfer, worth_measuring
from predictors.flash.degree_accuracy import DegreeAccuracy
from predictors.flash.hardware import HardwareCost, NonNegativeLinear, fit_hardware, read_hardware
from predictors.flash.nn_degree import inverted_residual_degree, inverted_residual_mass, nn_degree, nn_mass
from predictors.flash.objective import PredictedAccuracy, flash_search
from predictors.flash.two_level import two_level_search

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
