"""Coordinate descent: what a step saves, that the budget is met, and that several choices a step keep more where steps are large."""

import numpy as np
import pytest

from evonas import Budget, Choice, CoordinateDescentExplorer, SearchSpace, UsageError, open_study, search
from evonas.testing import TableCost

LAYERS, WIDTHS = 12, 6


def problem(seed, upper=0.4, steps=0.0):
    """Layers of several widths: accuracy grows with the root of a width, and with pairs of neighbours; cost is linear, or in steps."""
    rng = np.random.default_rng(seed)
    share = np.linspace(1, 0, WIDTHS)
    space = SearchSpace(tuple(Choice(f"layer{i}.width", tuple(f"{s:.1f}" for s in share)) for i in range(LAYERS)))
    gain, pairs = rng.uniform(0.2, 1.0, LAYERS), 0.3 * rng.normal(size=LAYERS - 1)
    cost = rng.uniform(0.5, 1.5, LAYERS)[:, None] * (np.ceil(share * 3) / 3 if steps else share)
    cost = cost * (1 + steps * rng.normal(size=cost.shape)) + (share > 0) * steps

    def fitness(population):
        widths = share[population]
        return (gain * np.sqrt(widths)).sum(axis=1) + (pairs * widths[:, :-1] * widths[:, 1:]).sum(axis=1)

    table = TableCost(cost)
    return space, Budget({"latency": table}, [f"latency={upper * table(np.zeros((1, LAYERS), int))[0]}"]), fitness


def walked(explorer, problem_of, evaluations):
    space, budget, fitness = problem_of
    return search(space, fitness, explorer, evaluations=evaluations, study=open_study(None, "walk"), budget=budget).history


def test_every_step_asks_for_a_little_less_and_begins_where_the_last_one_ended():
    """By replaying it: samples lower at most so many choices of one network, keep the goal, and the best ratio is the next network."""
    found = problem(0)
    explorer = CoordinateDescentExplorer(found[0], found[1], seed=1, generation_size=30, together=3, first_step=0.1, decay=0.9)
    history = walked(explorer, found, 1 + 30 * 5)
    rows, scores = history.population, history.scores
    resources = explorer.resources(rows)
    assert rows[0].tolist() == [0] * LAYERS
    now, step = 0, 0.1 * resources[0]
    for generation in range(5):
        mine = np.arange(1 + 30 * generation, 31 + 30 * generation)
        goal = max(resources[now] - step, 1.0)
        assert (resources[mine] <= goal + 1e-9).all()
        changed = rows[mine] != rows[now]
        sampled = (changed.sum(axis=1) <= 3) & (rows[mine] >= rows[now]).all(axis=1)
        assert sampled.mean() > 0.9  # others are random ones of the budget
        lost = (scores[now] - scores[mine] + 1e-6) / (resources[now] - resources[mine] + 1e-5)
        now, step = int(mine[lost.argmin()]), step * 0.9


@pytest.mark.parametrize("seed", range(20))
def test_the_budget_is_met_with_a_latency_in_steps(seed):
    """Noise and steps in the table: twenty of twenty descents end within the budget, and what is recommended keeps it."""
    found = problem(seed, steps=0.05)
    explorer = CoordinateDescentExplorer(found[0], found[1], seed=seed, generation_size=20, first_step=0.08)
    history = walked(explorer, found, 500)
    best = explorer.recommend(history)[0]
    assert found[1].feasible(history.population[[best]])[0]
    assert explorer.resources(explorer.way(history)[-1:])[0] <= 1


def test_several_choices_a_step_keep_more_where_steps_are_large():
    """Against one choice a step (NetAdapt), 8 problems, steps of 10 %, as many evaluations."""
    ahead = []
    for seed in range(8):
        found = problem(seed)
        best = []
        for settings in ({"together": 1}, {"together": 3, "generation_size": 40}):
            explorer = CoordinateDescentExplorer(found[0], found[1], seed=seed, first_step=0.1, **settings)
            history = walked(explorer, found, 450)
            best.append(history.scores[explorer.recommend(history)[0]])
        ahead.append(best[1] - best[0])
    assert np.mean(ahead) > 0
    assert sum(value >= 0 for value in ahead) >= 6


def test_what_makes_no_sense_is_refused():
    space, budget, _ = problem(0)
    for make, message in (
        (lambda: CoordinateDescentExplorer(space), "upper bound"),
        (lambda: CoordinateDescentExplorer(space, budget, first_step=1.5), "first_step"),
        (lambda: CoordinateDescentExplorer(space, budget, together=0), "together"),
        (lambda: CoordinateDescentExplorer(space, budget, decay=2.0), "decay"),
    ):
        with pytest.raises(UsageError, match=message):
            make()


def test_it_begins_with_the_dearest_network_also_where_a_choice_costs_nothing_without_another():
    """A kernel costs where there are filters; the first options have none."""
    space = SearchSpace(
        tuple(Choice(f"{i}.{kind}", tuple(options)) for i in range(3) for kind, options in (("filters", "0123"), ("kernel", "357")))
    )

    class Filters:
        unit = ""

        def __call__(self, population):
            return (population[:, ::2] * (1 + population[:, 1::2])).sum(axis=1).astype(float)

    explorer = CoordinateDescentExplorer(space, Budget({"cost": Filters()}, ["cost=10"]))
    history = walked(explorer, (space, explorer.budget, lambda population: population.sum(axis=1).astype(float)), 1)
    assert history.population.tolist() == [[3, 2] * 3]
    assert "the descent ended at 2.7 times the budget" in explorer.unfinished(history)
