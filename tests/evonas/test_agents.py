"""Agents: what they are told, what they make of it, and the games on which the best play is known."""

import itertools

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.linear_model import Ridge

from evonas import AGENTS, AgentsExplorer, Choice, ExponentialAgents, LeastSquaresAgents, SearchSpace, UsageError, open_study, search
from evonas.agents import fitted
from evonas.study import History

SPACE = SearchSpace(tuple(Choice(f"c{i}", ("a", "b", "c", "d")[: 2 + i % 3]) for i in range(4)))
GAME = SearchSpace(tuple(Choice(f"agent{i}", tuple("abcdefgh")) for i in range(14)))
ROUNDS = 3000


def play(agents, seed, noise=0.05):
    """The paper's setting: the loss is the mean of what options cost. Relative regret of all plays, and of the recommendation."""
    rng = np.random.default_rng(seed)
    costs = rng.random((14, 8))
    best, average = costs.min(axis=1).mean(), costs.mean()
    regrets = []
    for _ in range(ROUNDS):
        row = agents.draw(1, rng)
        loss = costs[np.arange(14), row[0]].mean()
        agents.learn(row, [loss + noise * rng.normal()])
        regrets.append((loss - best) / (average - best))
    recommended = costs[np.arange(14), agents.recommended()].mean()
    return np.array(regrets), (recommended - best) / (average - best)


@pytest.mark.parametrize("kind", AGENTS)
def test_what_is_recommended_is_close_to_the_best_play(kind):
    """And the regret of exponential agents grows ever more slowly, where that of uniform play grows by one a round."""
    regrets, recommended = play(AGENTS[kind](GAME, rounds=ROUNDS), seed=3)
    assert recommended <= 0.1
    assert regrets[:100].mean() > 0.5
    if kind == "exponential":
        summed = regrets.cumsum()
        assert np.log(summed[-1] / summed[ROUNDS // 2 - 1]) / np.log(2) < 0.9
        assert regrets[-300:].mean() < 0.1


def test_losses_that_fall_for_all_are_no_merit():
    """A supernet that learns loses ever less whatever is drawn (without the running mean a regret of .5; benchmarks/agents.py)."""
    costs = np.random.default_rng(6).random((14, 8))
    agents, rng = LeastSquaresAgents(GAME), np.random.default_rng(5)
    for t in range(1000):
        row = agents.draw(1, rng)
        agents.learn(row, [costs[np.arange(14), row[0]].mean() + 2 * np.exp(-t / 500)])
    best = costs.min(axis=1).mean()
    assert (costs[np.arange(14), agents.recommended()].mean() - best) / (costs.mean() - best) < 0.15


def test_the_credit_of_exponential_agents_is_unbiased():
    """By enumeration: on average over what is drawn, every option's credit moves by what is lost where its agent draws it."""
    rng = np.random.default_rng(0)
    agents = ExponentialAgents(SPACE, rounds=10)
    state = {"rounds": 10, "count": 7, "credit": rng.normal(size=agents.credit.shape), "means": (0.4, 7 * 0.3**2)}
    agents.restore(state)
    policies = agents.distribution
    everything = SPACE.enumerate()
    losses = rng.random(len(everything))
    chances = np.prod([policy[column] for policy, column in zip(policies, everything.T, strict=True)], axis=0)
    assert chances.sum() == pytest.approx(1)
    moved = np.zeros(agents.credit.shape)
    for row, loss, chance in zip(everything, losses, chances, strict=True):
        agents.restore(state)
        agents.learn(row[None], [loss])
        moved += chance * (agents.credit - state["credit"])
    for choice, option in itertools.product(range(len(SPACE)), range(4)):
        there = everything[:, choice] == option
        expected = (np.average(losses[there], weights=chances[there]) - 0.4) / 0.3 if there.any() else 0.0
        assert moved[choice, option] == pytest.approx(expected)


@pytest.mark.parametrize("kind", AGENTS)
def test_draws_follow_the_policies(kind):
    """Chi-square of 8,000 draws; what is not allowed has no chance, and what agents hold likely is not what loses."""
    rng = np.random.default_rng(1)
    space = SPACE.narrow({"c2": ["a", "d"]})
    agents = AGENTS[kind](space, rounds=200)
    for _ in range(60):
        rows = agents.draw(5, rng)
        agents.learn(rows, rows.sum(axis=1) + rng.normal(size=5))
    rows = agents.draw(8000, rng)
    assert space.contains(rows).all()
    for policy, column, choice in zip(agents.distribution, rows.T, space.choices, strict=True):
        assert policy.shape == (len(choice.options),)
        assert policy.sum() == pytest.approx(1)
        assert policy.argmax() == 0
        there = policy > 0
        assert chisquare(np.bincount(column, minlength=len(policy))[there], policy[there] * 8000).pvalue > 1e-4
    assert agents.distribution[2][[1, 2]].tolist() == [0, 0]
    assert agents.recommended() == (0, 0, 0, 0)


def test_policies_of_least_squares_are_zipfs():
    """The paper's numbers for eight options, and a tie shared in the beginning."""
    agents = LeastSquaresAgents(GAME)
    np.testing.assert_allclose(agents.policies, 1 / 8)
    agents.credit = np.tile(np.arange(8.0)[::-1], (14, 1))
    np.testing.assert_allclose(agents.policies[0][::-1], [0.368, 0.184, 0.123, 0.092, 0.074, 0.061, 0.053, 0.046], atol=5e-4)


@pytest.mark.parametrize("rows", [12, 300])
def test_credit_by_least_squares_is_ridge_regression(rows):
    """scikit-learn's, with fewer equations than options and with more; a constant on all options of an agent changes nothing."""
    rng = np.random.default_rng(rows)
    population, losses = rng.integers(8, size=(rows, 14)), rng.normal(size=rows)
    taken = (population[:, :, None] == np.arange(8)).reshape(rows, -1).astype(float)
    reference = Ridge(alpha=0.7, fit_intercept=False).fit(taken, losses - losses.mean()).coef_
    np.testing.assert_allclose(fitted(population, losses, 8, 0.7).ravel(), reference, atol=1e-8)
    np.testing.assert_allclose(fitted(population, losses + 5, 8, 0.7).ravel(), reference, atol=1e-8)


@pytest.mark.parametrize("kind", AGENTS)
def test_agents_go_on_where_they_were(kind):
    """What is kept as plain data is all that they know; losses in other units teach the same."""
    runs = []
    for unit, stop in ((1.0, None), (1.0, 30), (1000.0, None)):
        agents, rng = AGENTS[kind](GAME, rounds=200), np.random.default_rng(2)
        for t in range(60):
            if t == stop:
                again = AGENTS[kind](GAME)
                again.restore(agents.plain())
                agents = again
            rows = agents.draw(1, rng)
            agents.learn(rows, [unit * (rows.sum() + rng.normal())])
        runs.append(agents.policies)
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_allclose(runs[0], runs[2], rtol=1e-6)


@pytest.mark.parametrize("kind", AGENTS)
def test_as_an_explorer_they_find_what_random_search_does_not(kind):
    """On costs that add up: the best of 500 proposals, and what the last hundred are worth beside the first."""
    costs = np.random.default_rng(4).random((14, 8))

    def fitness(population):
        return -costs[np.arange(14), population].mean(axis=1)

    explorer = AgentsExplorer(GAME, agents=kind, rounds=500, seed=0)
    scores = search(GAME, fitness, explorer, evaluations=500, study=open_study(None, kind)).history.scores
    random = fitness(GAME.sample(500, np.random.default_rng(0)))
    assert scores.max() > random.max() + 1.5 * random.std()
    assert scores[-100:].mean() > scores[:25].mean() + random.std()


def test_exponential_agents_learn_nothing_from_what_they_did_not_draw():
    """Architectures to try first were drawn with no chance that could be divided by; a linear model uses them."""
    rows = SPACE.enumerate()[:40]
    tried = History(SPACE, np.arange(-20, 20), rows, rows.sum(axis=1).astype(float))
    counts = {kind: AgentsExplorer(SPACE, agents=kind).learned(tried).count for kind in AGENTS}
    assert counts == {"exponential": 20, "least-squares": 40}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialAgents(SPACE, floor=0.3), "floor"),
        (lambda: ExponentialAgents(SPACE, rate=0.0), "positive rate"),
        (lambda: LeastSquaresAgents(SPACE, ridge=0.0), "ridge"),
        (lambda: LeastSquaresAgents(SPACE, rounds=0), "at least 1 round"),
        (lambda: ExponentialAgents(SPACE).learn(SPACE.enumerate()[:1], [np.nan]), "not finite"),
        (lambda: AgentsExplorer(SPACE, agents="thompson"), "Unknown agents"),
        (lambda: AgentsExplorer(SPACE, rounds=0), "rounds=0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
