"""Which network is delivered: the first that the explorer recommends and that keeps the bounds when it is measured."""

import importlib.metadata
import sys

import numpy as np
import pytest

from evonas import EvolutionExplorer, UsageError, open_study, search
from evonas.testing import example
from recipes.runner.delivery import first_within, versions


class Contrary(EvolutionExplorer):
    """Recommends the worst first."""

    def recommend(self, history):
        return history.scored[::-1]


@pytest.mark.parametrize(("kind", "best"), [(EvolutionExplorer, 0), (Contrary, -1)])
def test_the_explorer_says_which_is_first(kind, best):
    space, budget, fitness = example()
    explorer = kind(space, budget)
    found = search(space, fitness, explorer, evaluations=60, study=open_study(None, "delivery"), budget=budget)
    history = found.history
    winner = first_within(explorer, found, lambda architecture: {})["finalists"][0]
    assert winner["score"] == winner["inherited"] == history.scores[history.scored[best]]
    assert winner["architecture"] == space.to_names(history.population[history.scored[best]])
    # measured, the first two break the bound: the third is taken, and all three are told
    measured = iter([1e9, 1e9, 0.0])
    chosen = first_within(explorer, found, lambda architecture: {"macs": next(measured)}, accuracy={}.get)
    assert [entry["fits"] for entry in chosen["tried"]] == [False, False, True]
    (winner,) = chosen["finalists"]
    assert winner["trial"] == history.numbers[explorer.recommend(history)[2]]
    # more are wanted, with their accuracies
    chosen = first_within(explorer, found, lambda architecture: {}, wanted=3, accuracy=lambda trial: trial / 100)
    assert [entry["inherited"] for entry in chosen["finalists"]] == [entry["trial"] / 100 for entry in chosen["finalists"]]
    assert [entry["score"] for entry in chosen["finalists"]] == history.scores[explorer.recommend(history)[:3]].tolist()
    # far apart: greedily, best first; where nothing is so far, the next best
    order = history.population[explorer.recommend(history)]
    for apart, far in ((3, True), (len(space) + 1, False)):
        chosen = first_within(explorer, found, lambda architecture: {}, wanted=5, apart=apart)["finalists"]
        rows = space.population([space.from_names(entry["architecture"]) for entry in chosen])
        expected = []
        for row in order:
            if len(expected) < 5 and (not expected or not far or all((row != other).sum() >= apart for other in expected)):
                expected.append(row)
        np.testing.assert_array_equal(rows, expected)
    with pytest.raises(UsageError, match="None of the 50 best networks keeps"):
        first_within(explorer, found, lambda architecture: {"macs": np.inf})


def test_networks_by_hand_take_turns_with_those_of_the_search():
    """They are at most half, in the order they come in, each once, and measured whole as well."""
    space, budget, fitness = example()
    explorer = EvolutionExplorer(space, budget)
    history = search(space, fitness, explorer, evaluations=60, study=open_study(None, "delivery"), budget=budget)
    ranked = history.history.population[explorer.recommend(history.history)]
    unknown = next(row for row in space.sample(500, np.random.default_rng(0)) if not (ranked == row).all(axis=1).any())
    by_hand = np.stack([ranked[-1], unknown, ranked[0], ranked[-2]])

    def chosen(wanted, broken=()):
        measured = [list(row) for row in broken]
        found = first_within(explorer, history, lambda row: {"macs": 1e9} if list(row) in measured else {}, wanted=wanted, by_hand=by_hand)[
            "finalists"
        ]
        return [list(space.from_names(entry["architecture"])) for entry in found], [entry["by_hand"] for entry in found]

    rows, made = chosen(5)
    assert rows == [row.tolist() for row in (ranked[1], ranked[-1], ranked[2], ranked[0], ranked[3])]
    assert made == [False, True, False, True, False]
    assert chosen(4, broken=[ranked[-1]])[0] == [row.tolist() for row in (ranked[1], ranked[0], ranked[2], ranked[-2])]
    assert chosen(1) == ([ranked[0].tolist()], [False])
    assert chosen(2)[0] == [ranked[0].tolist(), ranked[-1].tolist()]


def test_a_package_under_another_name_is_no_reason_to_lose_a_run(monkeypatch):
    """`xgboost-cpu` brings the module `xgboost` and no package of that name."""
    import xgboost

    known = importlib.metadata.version

    def version(name):
        if name in ("xgboost", "deap"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.delitem(sys.modules, "deap", raising=False)
    found = versions()
    assert (found["xgboost"], found["deap"]) == (xgboost.__version__, "unknown")
    assert found["numpy"] == np.__version__
