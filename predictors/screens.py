"""Predictors that screen candidates of a supernet before they are scored, by name: what `evonas mobile --predictor` offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sklearn.pipeline import make_pipeline

from evonas.registry import Entry, Registry
from evonas.space import SearchSpace
from evonas.tables import Part, tabulate
from predictors.accuracy.boosted import BoostedTrees
from predictors.accuracy.encoding import measures, one_hot
from predictors.accuracy.gaussian_process import GaussianProcess
from predictors.accuracy.normal_scores import NormalScores
from predictors.costs import macs
from predictors.flash.degree_accuracy import DegreeAccuracy
from predictors.flash.nn_degree import inverted_residual_degree, inverted_residual_mass


class Supernet(Protocol):
    """What a screen knows of the networks that it screens."""

    @property
    def space(self) -> SearchSpace: ...

    def parts(self) -> Sequence[Part]: ...


SCREENS: Registry[Entry[Callable[[Any], Any]]] = Registry("predictor", "predictors")


def screen(name: str, supernet: Supernet) -> Any:
    """The predictor of a name for the candidates of a supernet, a scikit-learn regressor; None for "none".

    Raises:
        UsageError: an unknown name.
    """
    return SCREENS.pick(name).make(supernet)


def degree_features(supernet: Supernet) -> Any:
    """A transformer: a population to NN-Degree, NN-Mass (plus one, as it may be zero) and MACs."""
    space, parts = supernet.space, supernet.parts()
    blocks = [part for part in parts if part.choices]
    degree = tabulate(space, blocks, inverted_residual_degree)
    mass = tabulate(space, blocks, inverted_residual_mass)
    return measures(degree, lambda population: 1 + mass(population), macs(space, parts))


def _gaussian_process(supernet: Supernet) -> Any:
    return NormalScores(GaussianProcess(supernet.space))


def _trees(supernet: Supernet) -> Any:
    return NormalScores(make_pipeline(one_hot(supernet.space.sizes), BoostedTrees()))


def _degree(supernet: Supernet) -> Any:
    return make_pipeline(degree_features(supernet), DegreeAccuracy())


SCREENS.add(Entry("boosted-trees", "XGBoost over the options, fitted to ranks", "Chen & Guestrin 2016, arXiv 1603.02754", _trees))
SCREENS.add(Entry("gaussian-process", "a Gaussian process over what the space declares, fitted to ranks", "", _gaussian_process))
SCREENS.add(Entry("nn-degree", "a curve over NN-Degree, NN-Mass and MACs", "Li et al. 2021, arXiv 2108.00568", _degree))
SCREENS.add(Entry("none", "everything that is proposed is scored", "", lambda supernet: None))
