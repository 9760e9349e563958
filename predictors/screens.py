"""Predictors that screen candidates of a supernet before they are scored, by name: what `evonas mobile --predictor` offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from evonas.registry import Entry, Registry
from evonas.space import Population, SearchSpace
from evonas.tables import Part, tabulate
from predictors.accuracy.boosted import BoostedTrees
from predictors.accuracy.chosen import ChosenByTau
from predictors.accuracy.encoding import measures, one_hot, option_numbers
from predictors.accuracy.gaussian_process import GaussianProcess
from predictors.accuracy.normal_scores import NormalScores
from predictors.costs import macs, params
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


def candidates(space: SearchSpace, costs: Sequence[Callable[[Population], npt.ArrayLike]]) -> list[tuple[str, Any]]:
    """Regressors over architectures that differ in what they take a space for, by name.

    Args:
        space: of the architectures.
        costs: whose logarithms are features.
    """
    features = [make_pipeline(measures(*costs), FunctionTransformer(_logarithm), StandardScaler()), one_hot(space.sizes)]
    if option_numbers(space, space.sample(1, np.random.default_rng(0))).shape[1]:
        features.append(FunctionTransformer(partial(_numbers, space)))
    return [
        ("boosted trees", make_pipeline(make_union(*features), BoostedTrees())),
        ("ridge", make_pipeline(make_union(*features), Ridge(1.0))),
        ("Gaussian process", GaussianProcess(space)),
    ]


def _logarithm(values: Any) -> Any:
    return np.log(np.maximum(values, np.finfo(np.float64).tiny))


def _numbers(space: SearchSpace, population: Population) -> npt.NDArray[np.float64]:
    return option_numbers(space, np.asarray(population, dtype=np.int64))


def _chosen(supernet: Supernet) -> Any:
    space, parts = supernet.space, supernet.parts()
    counted = [params(space, parts), macs(space, parts)]
    return NormalScores(ChosenByTau(candidates(space, counted), counted[0]))


def _trees(supernet: Supernet) -> Any:
    return NormalScores(make_pipeline(one_hot(supernet.space.sizes), BoostedTrees()))


def _degree(supernet: Supernet) -> Any:
    return make_pipeline(degree_features(supernet), DegreeAccuracy())


SCREENS.add(Entry("boosted-trees", "XGBoost over the options, fitted to ranks", "Chen & Guestrin 2016, arXiv 1603.02754", _trees))
SCREENS.add(Entry("chosen", "trees, ridge or a Gaussian process, whichever ranks held-out networks best", "", _chosen))
SCREENS.add(Entry("nn-degree", "a curve over NN-Degree, NN-Mass and MACs", "Li et al. 2021, arXiv 2108.00568", _degree))
SCREENS.add(Entry("none", "everything that is proposed is scored", "", lambda supernet: None))
