"""What a person writes who checks types strictly: `make test` runs mypy over it, nothing runs it. No call may be untyped, none give Any."""

from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt
import optuna
from torch import nn

import evonas
from evonas import Budget, Choice, EvolutionExplorer, Explorer, History, Population, SearchResult, SearchSpace, UsageError
from predictors import AdditiveCost, BoostedTrees, GaussianProcess, LatencyTable, count_macs, macs, params, read_table
from recipes import load_model
from recipes.runner.found import Found
from supernet import ChainSupernet, ChoiceBlock, FixedBlock, ImageData, InheritedFitness, Residual, UniformPaths, load, mbconv, space, train


def find_one() -> None:
    result = evonas.find("digits", "macs=700k", out="runs/typed")
    assert_type(result, evonas.Found)
    assert_type(result.accuracy, float)
    assert_type(result.costs, dict[str, float])
    assert_type(result.architecture, dict[str, str])
    assert_type(result.study, optuna.Study)
    assert_type(result.report(), Path)
    assert_type(Found("runs/typed").network, nn.Module)
    assert_type(load_model("runs/typed/model.pt"), nn.Module)


@space("typed", summary="as small as can be")
def typed(image_shape: tuple[int, int, int], classes: int, *, seed: int = 0) -> ChainSupernet:
    choice = Choice("op", ("conv", "skip"))
    options: dict[str, nn.Module] = {"conv": Residual(nn.Conv2d(image_shape[0], image_shape[0], 3, padding=1)), "skip": nn.Identity()}
    head = nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
    return ChainSupernet(SearchSpace((choice,)), [ChoiceBlock("op", "op", options), FixedBlock("head", head)], image_shape, seed=seed)


class Lazy(Explorer):
    def propose(self, history: History, start: int, size: int) -> Population:
        return self.space.sample(size, self.rng(start))


def search_by_hand() -> npt.NDArray[np.float64]:
    images = load("digits")
    assert_type(images, ImageData)
    supernet = mbconv(images.image_shape, classes=10)
    assert_type(supernet, ChainSupernet)
    assert_type(train(supernet, UniformPaths(), images.train, epochs=1), list[dict[str, float]])
    cost = macs(supernet.space, supernet.parts())
    assert_type(cost, AdditiveCost)
    table: LatencyTable = read_table(Path("latency.json"), supernet.space)
    budget = Budget({"macs": cost, "params": params(supernet.space, supernet.parts()), "latency": table}, ["macs=30M", "latency=8ms"])
    fitness = InheritedFitness(supernet, images.search, images.train.head(256))
    explorer = EvolutionExplorer(supernet.space, budget, seed=0)
    found = evonas.search(supernet.space, fitness, explorer, evaluations=50, study=evonas.open_study(None, "typed"), budget=budget)
    assert_type(found, SearchResult)
    best = found.history.population[found.history.scored[0]]
    network = supernet.subnet(best)
    assert_type(count_macs(network, images.image_shape), float)
    try:
        supernet.space.from_names({"op": "no such option"})
    except UsageError as error:
        print(error)
    predictor = GaussianProcess(supernet.space).fit(found.history.population, found.history.scores)
    other = BoostedTrees().fit(found.history.population, found.history.scores)
    assert_type(other, BoostedTrees)
    return np.asarray(predictor.predict(found.history.population))
