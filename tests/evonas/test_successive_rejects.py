"""Reading leaders again: as often as the paper says, resumable, and closer to the truth than one read each."""

import numpy as np
import pytest

from evonas import Choice, EvolutionExplorer, History, SearchSpace, UsageError, open_study, search, settle
from evonas.study import REPEATS, record
from evonas.successive_rejects import READ, phases

SPACE = SearchSpace(tuple(Choice(f"c{i}", ("a", "b", "c")) for i in range(5)))


def truth(rows):
    return 0.1 * rows.sum(axis=1) + 0.05 * rows[:, 0]


class Noisy:
    """Reads with noise of its own seed, and counts them."""

    def __init__(self, seed, spread=0.15, dies_after=None):
        self.rng, self.spread, self.dies_after, self.reads = np.random.default_rng(seed), spread, dies_after, 0

    def __call__(self, rows):
        self.reads += len(rows)
        if self.dies_after is not None and self.reads > self.dies_after:
            raise KeyboardInterrupt
        return truth(rows) + self.rng.normal(0, self.spread, len(rows))


def searched(seed):
    study, fitness = open_study(None, f"noisy{seed}"), Noisy(seed)
    explorer = EvolutionExplorer(SPACE, seed=seed)
    history = search(SPACE, fitness, explorer, evaluations=80, study=study).history
    return study, explorer.recommend(history)[:6], history


@pytest.mark.parametrize(("leaders", "reads"), [(2, 2), (4, 20), (8, 40), (8, 100)])
def test_the_reads_are_those_of_the_paper(leaders, reads):
    """n_k = ceil((n - K) / (logbar(K) (K + 1 - k))), and no more than n in all (Audibert et al., 2010, figure 3)."""
    logbar = 0.5 + (1 / np.arange(2, leaders + 1)).sum()
    expected = [max(int(np.ceil((reads - leaders) / (logbar * (leaders + 1 - k)))), 1) for k in range(1, leaders)]
    assert phases(leaders, reads) == expected
    if reads > leaders:
        assert sum(expected) + expected[-1] <= reads


def test_reads_are_kept_beside_the_search_and_an_interrupted_race_goes_on():
    study, leaders, before = searched(0)
    whole = settle(study, SPACE, Noisy(7), leaders, reads=30)
    reads = [trial for trial in study.trials if READ in trial.user_attrs]
    assert sum(each.reads for each in whole) == len(reads) <= 30
    after = History.of(study, SPACE)
    np.testing.assert_array_equal(after.scores, before.scores)  # explorers see none of them
    for each in whole:
        own = [trial.value for trial in reads if trial.user_attrs[REPEATS] == each.number]
        assert each.mean == pytest.approx(np.mean(own))
        assert tuple(SPACE.from_names(study.trials[each.number].params)) == each.architecture
    assert whole[0].reads == max(each.reads for each in whole)
    again = settle(study, SPACE, Noisy(8, dies_after=0), leaders, reads=30)  # nothing is left to read
    assert again == whole

    study, leaders, _ = searched(0)
    rest = Noisy(7, dies_after=14)
    with pytest.raises(KeyboardInterrupt):
        settle(study, SPACE, rest, leaders, reads=30)
    rest.dies_after = None
    assert sum(each.reads for each in settle(study, SPACE, rest, leaders, reads=30)) == len(reads)


def test_what_is_settled_is_better_than_what_was_read_once():
    once, settled = [], []
    for seed in range(12):
        study, leaders, history = searched(seed)
        once.append(truth(history.population[leaders[:1]])[0])
        settled.append(truth(np.array([settle(study, SPACE, Noisy(100 + seed), leaders, reads=36)[0].architecture]))[0])
    assert np.mean(settled) > np.mean(once)


def test_copies_and_failures_are_no_reads():
    """A sampler's repeat holds a copy of the first score; a read that gives no number is the worst, also for whoever goes on."""
    study, leaders, history = searched(1)
    first = int(history.numbers[leaders[0]])
    record(study, SPACE, history.population[leaders[0]], 9.0, attributes={REPEATS: first})
    failing = history.population[leaders[1]]

    def fitness(rows):
        return np.where((rows == failing).all(axis=1), np.nan, truth(rows))

    found = settle(study, SPACE, fitness, leaders, reads=30)
    assert all(each.mean == pytest.approx(truth(np.array([each.architecture]))[0]) for each in found[:-1])
    assert (found[-1].architecture, found[-1].mean) == (tuple(failing.tolist()), -np.inf)
    assert settle(study, SPACE, fitness, leaders, reads=30) == found


def test_too_few_reads_are_refused():
    study, leaders, _ = searched(0)
    with pytest.raises(UsageError, match="a read for each at least"):
        settle(study, SPACE, Noisy(0), leaders, reads=5)
