"""Predictors that screen candidates of a chain before they are scored, by name: what `evonas mobile --predictor` offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.pipeline import make_pipeline

from evonas.errors import unknown
from evonas.registry import Entry
from predictors import (
    BoostedTrees,
    DegreeAccuracy,
    NormalScores,
    inverted_residual_degree,
    inverted_residual_mass,
    macs,
    measures,
    one_hot,
    tabulate,
)
from supernet.chain import ChainSupernet


def degree_features(supernet: ChainSupernet) -> Any:
    """A transformer: a population to NN-Degree, NN-Mass (plus one, as it may be zero) and MACs."""
    space, parts = supernet.space, supernet.parts()
    blocks = [part for part in parts if part.choices]
    degree = tabulate(space, blocks, inverted_residual_degree)
    mass = tabulate(space, blocks, inverted_residual_mass)
    return measures(degree, lambda population: 1 + mass(population), macs(space, parts))


def _trees(supernet: ChainSupernet) -> Any:
    return NormalScores(make_pipeline(one_hot(supernet.space.sizes), BoostedTrees()))


def _degree(supernet: ChainSupernet) -> Any:
    return make_pipeline(degree_features(supernet), DegreeAccuracy())


SCREENS: dict[str, Entry[Callable[[ChainSupernet], Any]]] = {
    "boosted-trees": Entry("boosted-trees", "XGBoost over the options, fitted to ranks", "Chen & Guestrin 2016, arXiv 1603.02754", _trees),
    "nn-degree": Entry("nn-degree", "a curve over NN-Degree, NN-Mass and MACs", "Li et al. 2021, arXiv 2108.00568", _degree),
    "none": Entry("none", "everything that is proposed is scored", "", lambda supernet: None),
}


def screen(name: str, supernet: ChainSupernet) -> Any:
    """The predictor of a name for the candidates of a supernet; None for "none".

    Raises:
        UsageError: an unknown name.
    """
    if name not in SCREENS:
        raise unknown("predictor", name, SCREENS)
    return SCREENS[name].make(supernet)
