"""supernet: networks that contain networks, ways of training them, and the fitness they give."""

from supernet.blocks import Block, ChoiceBlock, FixedBlock, Mixture, Part, PathsBlock
from supernet.cell import CellBlock
from supernet.chain import ChainSupernet
from supernet.data import ImageData
from supernet.device import pick_device
from supernet.diagnosis.sharing import split
from supernet.evaluation import accuracy, recalibrate
from supernet.fine_tuning import FineTunedFitness
from supernet.fitness import InheritedFitness, score_one_by_one
from supernet.loading import load
from supernet.operators import InvertedResidual, Residual, SqueezeExcite, conv_bn
from supernet.shrinking.rotation import Rotation
from supernet.shrinking.rounds import Shrinking
from supernet.spaces import (
    branches,
    bypass,
    cream,
    darts,
    ensemble,
    macro,
    mbconv,
    nasbench201,
    pnas_cells,
    quantised,
    shuffle,
    skip_cells,
    space,
    two_node,
)
from supernet.training.agents import AgentPaths
from supernet.training.binned import BinnedPaths
from supernet.training.fair import FairPaths
from supernet.training.learned_mixtures import LearnedMixtures
from supernet.training.loop import train
from supernet.training.ordered import OrderedPaths
from supernet.training.ordered_dropout import OrderedDropout
from supernet.training.prioritised import PrioritisedPaths
from supernet.training.self_evaluated import SelfEvaluated
from supernet.training.standalone import StandAlone, TrainedFitness
from supernet.training.uniform import UniformPaths
from supernet.training.warm_up import WarmUp

__all__ = [
    "AgentPaths",
    "BinnedPaths",
    "Block",
    "CellBlock",
    "ChainSupernet",
    "ChoiceBlock",
    "FairPaths",
    "FineTunedFitness",
    "FixedBlock",
    "ImageData",
    "InheritedFitness",
    "InvertedResidual",
    "LearnedMixtures",
    "Mixture",
    "OrderedDropout",
    "OrderedPaths",
    "Part",
    "PathsBlock",
    "PrioritisedPaths",
    "Residual",
    "Rotation",
    "SelfEvaluated",
    "Shrinking",
    "SqueezeExcite",
    "StandAlone",
    "TrainedFitness",
    "UniformPaths",
    "WarmUp",
    "accuracy",
    "branches",
    "bypass",
    "conv_bn",
    "cream",
    "darts",
    "ensemble",
    "load",
    "macro",
    "mbconv",
    "nasbench201",
    "pick_device",
    "pnas_cells",
    "quantised",
    "recalibrate",
    "score_one_by_one",
    "shuffle",
    "skip_cells",
    "space",
    "split",
    "train",
    "two_node",
]
