"""Several workers of one study: nothing twice, nothing lost, nothing left over."""

import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from evonas import EvolutionExplorer, History, RandomExplorer, UsageError, open_study, search
from evonas import workers as w
from evonas.study import agree, agreed, join
from evonas.testing import example
from evonas.workers import Worker, has_ended

STORAGES = {"journal": "{0}/study.log", "sqlite": "sqlite:///{0}/study.db"}

WORKER = """
import sys, time
from evonas import EvolutionExplorer, open_study, search
from evonas.testing import example
space, budget, fitness = example()
def slow(population):
    time.sleep({seconds} * len(population))
    return fitness(population)
explorer = EvolutionExplorer(space, budget, seed=0)
result = search(space, slow, explorer, evaluations={evaluations}, study=open_study(sys.argv[1], "shared"), budget=budget)
print(result.evaluations, result.history.scores.max())
"""


def start(url, evaluations=120, seconds=0.01):
    code = WORKER.format(evaluations=evaluations, seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)


@pytest.mark.serial
@pytest.mark.parametrize("kind", STORAGES)
def test_four_workers_make_what_was_asked_for_and_nothing_twice(kind, tmp_path):
    url = STORAGES[kind].format(tmp_path)
    printed = [process.communicate(timeout=120)[0] for process in [start(url) for _ in range(4)]]
    study, (space, _, fitness) = open_study(url, "shared"), example()
    assert Counter(trial.state for trial in study.trials) == {TrialState.COMPLETE: 120}
    rows = np.array([space.from_names(trial.params) for trial in study.trials])
    assert len(set(space.keys(rows))) == 120
    np.testing.assert_allclose([trial.value for trial in study.trials], fitness(rows))
    assert len(set(printed)) == 1, "the workers ended with different results"
    assert len({trial.user_attrs["worker"] for trial in study.trials}) == 4


@pytest.mark.serial
@pytest.mark.parametrize("kind", STORAGES)
def test_what_killed_workers_leave_is_taken_over_at_once_on_the_same_machine(kind, tmp_path):
    url = STORAGES[kind].format(tmp_path)
    killed = [start(url, 100_000, 0.5) for _ in range(2)]
    study = open_study(url, "shared")
    while len({trial.user_attrs["worker"] for trial in study.get_trials(states=(TrialState.RUNNING,))}) < 2:
        time.sleep(0.05)
    for process in killed:
        process.kill()
        process.wait()
    left = {trial.number for trial in study.get_trials(states=(TrialState.RUNNING,))}
    space, budget, fitness = example()
    said = []
    explorer = EvolutionExplorer(space, budget, seed=0)
    result = search(space, fitness, explorer, evaluations=60, study=study, budget=budget, on_note=said.append)
    assert left
    assert all(study.trials[number].state == TrialState.COMPLETE for number in left)
    assert result.evaluations == max(60, len(study.trials)) == len(set(space.keys(result.history.population)))
    assert "taking over" in said[0]


def test_a_generation_is_agreed_on_whatever_is_known_when_it_is_asked_for(tmp_path):
    """A worker that comes late proposes the rows that belong to its numbers, from what the first one knew."""
    space, budget, fitness = example()
    path = tmp_path / "study.log"
    search(space, fitness, EvolutionExplorer(space, budget, seed=0), evaluations=70, study=open_study(path, "s"), budget=budget)
    alone = open_study(None, "alone")
    search(space, fitness, EvolutionExplorer(space, budget, seed=0), evaluations=100, study=alone, budget=budget)
    study = open_study(path, "s")
    for trial in study.trials[:50]:  # as if the results of the first generation had come later
        trial.value = None
    rows = EvolutionExplorer(space, budget, seed=0).rows(study, 70, 30)
    np.testing.assert_array_equal(rows, History.of(alone, space).population[70:])
    other = EvolutionExplorer(space, budget, seed=1).rows(study, 70, 30)
    assert not np.array_equal(other, rows), "another search took over a generation that is not its own"


def test_a_generation_does_not_wait_for_slow_workers(tmp_path):
    """One worker never answers; the other makes all the rest, and the study says what its generations lacked."""
    space, budget, fitness = example()
    path, never, ready = tmp_path / "study.log", threading.Event(), threading.Event()

    def stuck(population):
        ready.set()
        never.wait(60)
        return fitness(population)

    def slow():
        search(space, stuck, RandomExplorer(space, budget), evaluations=150, study=open_study(path, "s"), budget=budget, batch=5)

    thread = threading.Thread(target=slow)
    thread.start()
    ready.wait(30)
    study, said = open_study(path, "s"), []
    asked = {"evaluations": 150, "study": study, "budget": budget, "on_note": said.append}
    other = threading.Thread(target=lambda: search(space, fitness, RandomExplorer(space, budget), **asked))
    other.start()
    deadline = time.monotonic() + 60
    while sum(trial.state == TrialState.COMPLETE for trial in open_study(path, "s").trials) < 145:
        assert time.monotonic() < deadline, "the fast worker waited for the slow one"
        time.sleep(0.1)
    assert other.is_alive(), "it ended before all that was asked for was told"
    never.set()
    other.join(30)
    thread.join(30)
    trials = open_study(path, "s").trials
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 150}
    assert any("without 5 results" in text for text in said)
    assert trials[50].system_attrs["evonas:lacks"] == [0, 1, 2, 3, 4]


def test_signs_of_life_decide_about_other_machines(tmp_path, monkeypatch):
    study = open_study(tmp_path / "study.log", "s")
    with Worker(study) as me:
        me.join()
        assert me.living() == 1
        now = time.time()
        for name, sign in (("elsewhere:1:1:0", now), ("gone:1:1:0", now - 2 * w.GRACE_S), ("left:1:1:0", None)):
            study._storage.set_study_system_attr(study._study_id, w.SIGN + name, sign)
        assert me.living() == 2
        assert [me.knows_ended(f"{name}:1:1:0") for name in ("elsewhere", "gone", "left", "unheard-of")] == [False, True, True, True]
        assert not has_ended(me.name, None)
    assert has_ended(me.name, time.time()), "a search that has ended in this process counts as living"


def test_a_database_tells_stale_trials_by_optunas_heartbeats(tmp_path, monkeypatch):
    monkeypatch.setattr("evonas.storage.HEARTBEAT_S", 1)
    monkeypatch.setattr("evonas.storage.GRACE_S", 1)
    monkeypatch.setattr("evonas.workers.HEARTBEAT_S", 0.2)
    url, (space, budget, fitness) = f"sqlite:///{tmp_path}/s.db", example()
    study = open_study(url, "s")
    trial = study.ask(dict(w_distributions(space)))
    study._storage.set_trial_user_attr(trial._trial_id, "worker", "elsewhere:1:1:0")
    study._storage.set_study_system_attr(study._study_id, w.SIGN + "elsewhere:1:1:0", time.time())
    study._storage.record_heartbeat(trial._trial_id)
    with Worker(study) as me:
        me.join()
        assert me.abandoned(study.get_trials(deepcopy=False)) == []
        time.sleep(2.5)
        assert [found.number for found in me.abandoned(study.get_trials(deepcopy=False))] == [0]

    def scored_slowly(population):
        time.sleep(2.5)
        with Worker(open_study(url, "s")) as other:
            running = other._study.get_trials(states=(TrialState.RUNNING,))
            assert running
            assert other.abandoned(running) == [], "the trials of a worker that is at work were taken for stale"
        return fitness(population)

    search(space, scored_slowly, RandomExplorer(space, budget), evaluations=3, study=study, budget=budget)
    assert {trial.state for trial in open_study(url, "s").trials} == {TrialState.COMPLETE}


def w_distributions(space):
    from evonas.study import distributions

    return distributions(space)


def test_the_trials_of_a_worker_of_another_machine_are_taken_over_when_it_is_silent(tmp_path):
    space, budget, fitness = example()
    study = open_study(tmp_path / "study.log", "s")
    with pytest.raises(ZeroDivisionError):
        search(space, lambda p: 1 / 0, RandomExplorer(space, budget), evaluations=5, study=study, budget=budget)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study._storage.set_trial_user_attr(trial._trial_id, "worker", "elsewhere:1:1:0")
    study._storage.set_study_system_attr(study._study_id, w.SIGN + "elsewhere:1:1:0", time.time() - 2 * w.GRACE_S)
    result = search(space, fitness, RandomExplorer(space, budget), evaluations=5, study=study, budget=budget)
    assert result.evaluations == 5 == len(study.trials)


def test_a_trial_that_somebody_else_told_meanwhile_stays_as_it_is(tmp_path):
    space, budget, fitness = example()
    study = open_study(tmp_path / "study.log", "s")

    def overtaken(population):
        for trial in open_study(tmp_path / "study.log", "s").get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, 99.0)
        return fitness(population)

    result = search(space, overtaken, RandomExplorer(space, budget), evaluations=5, study=study, budget=budget)
    assert result.history.scores.tolist() == [99.0] * 5


def test_plain_optuna_samplers_share_a_study_as_well(tmp_path):
    space, budget, fitness = example()

    def work(seed):
        study = open_study(tmp_path / "study.log", "s")
        search(space, fitness, optuna.samplers.RandomSampler(seed=seed), evaluations=40, study=study, budget=budget, batch=3)

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    study = open_study(tmp_path / "study.log", "s")
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert 40 <= sum(trial.state == TrialState.COMPLETE and "repeats_trial" not in trial.user_attrs for trial in study.trials) <= 43


def test_a_study_belongs_to_one_search():
    (space, _, _), other = example(), example(choices=4)[0]
    study = open_study(None, "one")
    join(study, space, {"seed": 0, "data": "digits"})
    join(study, space, {"seed": 0, "data": "digits", "supernet": "abc"})
    for wrong, said in (({"seed": 1}, "seed is 0, not 1"), ({"supernet": "xyz"}, "supernet is 'abc', not 'xyz'")):
        with pytest.raises(UsageError, match=said):
            join(study, space, wrong)
    assert study.user_attrs["search"] == {"seed": 0, "data": "digits", "supernet": "abc"}
    search(space, example()[2], RandomExplorer(space), evaluations=2, study=study)
    with pytest.raises(UsageError, match=r"has 9 choices .* this space 4"):
        join(study, other, {})


def test_the_first_value_is_everybodys():
    study = open_study(None, "one")
    assert agreed(study, "winner") is None
    assert agree(study, "winner", {"a": 1}) == {"a": 1} == agree(study, "winner", {"a": 2}) == agreed(study, "winner")
