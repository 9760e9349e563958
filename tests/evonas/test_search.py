"""The loop and the study: with Optuna's own samplers, with failures, with two processes' worth of workers."""

import json

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from evonas import EvolutionExplorer, History, ParetoExplorer, RandomExplorer, UsageError, open_study, record, search
from evonas.study import repair_journal
from evonas.testing import example

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("sampler", [optuna.samplers.TPESampler, optuna.samplers.NSGAIISampler, optuna.samplers.RandomSampler])
def test_any_optuna_sampler_searches(sampler):
    """Infeasible proposals are PRUNED with their constraints, repeats take the known score, and neither counts."""
    space, budget, fitness = example(choices=5, options=3)
    scored = []

    def counted(population):
        scored.extend(map(tuple, population.tolist()))
        return fitness(population)

    study = open_study(None, "optuna")
    result = search(space, counted, sampler(seed=0), evaluations=40, study=study, budget=budget)
    assert result.evaluations == 40 == len(scored) == len(set(scored))
    assert budget.feasible(np.array(scored)).all()
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert pruned, "the sampler never left the budget: the test shows nothing"
    assert all(max(t.constraints.values()) > 0 for t in pruned)
    repeated = [t for t in study.trials if "repeats_trial" in t.user_attrs]
    assert all(t.value == study.trials[t.user_attrs["repeats_trial"]].value for t in repeated)
    assert result.rejected == len(pruned) + len(repeated)


def test_tpe_learns_the_budget_from_pruned_trials():
    space, budget, fitness = example(choices=8, upper=0.3)
    study = open_study(None, "tpe")
    search(space, fitness, optuna.samplers.TPESampler(seed=1), evaluations=80, study=study, budget=budget)
    infeasible = np.array([t.state == TrialState.PRUNED and "repeats_trial" not in t.user_attrs for t in study.trials])
    by_chance = 1 - budget.feasible(space.sample(10_000, np.random.default_rng(0))).mean()
    assert infeasible[-60:].mean() < 0.6 * by_chance


def test_costs_and_constraints_are_written_to_the_journal(tmp_path):
    space, budget, fitness = example()
    study = open_study(tmp_path / "study.log", "search")
    search(space, fitness, EvolutionExplorer(space, budget), evaluations=5, study=study, budget=budget)
    again = open_study(tmp_path / "study.log", "search")
    for trial in again.trials:
        row = np.array([space.from_names(trial.params)])
        assert trial.user_attrs["macs"] == pytest.approx(budget.costs["macs"](row)[0])
        assert trial.system_attrs["constraints"] == pytest.approx(budget.violations(row)[0].tolist())
        assert trial.value == pytest.approx(fitness(row)[0])


def test_running_trials_of_a_dead_process_are_scored_first_and_none_is_lost(tmp_path):
    space, budget, fitness = example()
    undisturbed = search(space, fitness, EvolutionExplorer(space, budget), evaluations=120, study=open_study(None, "a"), budget=budget)
    calls = []

    class Killed(Exception):
        pass

    def deadly(population):
        calls.append(len(population))
        if len(calls) in (2, 3):
            raise Killed
        return fitness(population)

    path = tmp_path / "study.log"
    for _ in range(3):
        try:
            study = open_study(path, "a")
            search(space, deadly, EvolutionExplorer(space, budget), evaluations=120, study=study, budget=budget)
        except Killed:
            assert study.get_trials(states=(TrialState.RUNNING,))
    history = History.of(open_study(path, "a"), space)
    np.testing.assert_array_equal(history.population, undisturbed.history.population)
    np.testing.assert_array_equal(history.scores, undisturbed.history.scores)
    assert calls[1:4] == [50, 50, 50]


def test_two_workers_on_one_journal_score_nothing_twice(tmp_path):
    space, budget, fitness = example()
    scored = []

    def counted(population):
        scored.extend(map(tuple, population.tolist()))
        return fitness(population)

    for step in range(1, 7):
        for _ in ("one", "two"):
            study = open_study(tmp_path / "study.log", "shared")
            search(space, counted, RandomExplorer(space, budget), evaluations=len(scored) + 7 * step, study=study, budget=budget)
    assert len(scored) == len(set(scored)) == len(study.trials)


def test_a_search_that_failed_leaves_its_trials_to_the_next():
    space, budget, fitness = example()
    study = open_study(None, "two")
    with pytest.raises(ZeroDivisionError):
        search(space, lambda p: 1 / 0, RandomExplorer(space, budget), evaluations=5, study=study, budget=budget)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING] * 5
    search(space, fitness, RandomExplorer(space, budget), evaluations=5, study=study, budget=budget)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 5


def test_nan_scores_are_failed_trials_and_count():
    space, budget, _ = example()
    study = open_study(None, "nan")
    result = search(space, lambda p: np.full(len(p), np.nan), RandomExplorer(space, budget), evaluations=7, study=study, budget=budget)
    assert result.evaluations == 7
    assert {t.state for t in study.trials} == {TrialState.FAIL}


@pytest.mark.parametrize("torn", ['{"op_code": 4', '{"op_code"', '{"op_code":5}'])
def test_a_torn_last_line_is_cut_and_reported(tmp_path, torn):
    space, budget, fitness = example()
    path = tmp_path / "study.log"
    search(space, fitness, RandomExplorer(space, budget), evaluations=3, study=open_study(path, "s"), budget=budget)
    whole = path.read_bytes()
    path.write_bytes(whole + torn.encode())
    assert f"cut {len(torn)} bytes" in repair_journal(path)
    assert path.read_bytes() == whole
    assert repair_journal(path) is None
    assert len(open_study(path, "s").trials) == 3


def test_damage_inside_a_journal_is_refused(tmp_path):
    path = tmp_path / "study.log"
    path.write_text(json.dumps({"op_code": 0}) + "\nrubbish\n" + json.dumps({"op_code": 0}) + "\n")
    with pytest.raises(UsageError, match=r"Line 2 of .* is damaged"):
        repair_journal(path)


@pytest.mark.parametrize("url", ["nonsense://x", "sqlite:////no/such/folder/x.db", "/no/such/folder/study.log"])
def test_a_broken_storage_is_one_clear_line(url):
    with pytest.raises(UsageError, match="Cannot open the storage"):
        open_study(url, "search")


def test_sqlite_works_as_storage(tmp_path):
    space, budget, fitness = example()
    for evaluations in (4, 9):
        study = open_study(f"sqlite:///{tmp_path}/s.db", "search")
        search(space, fitness, EvolutionExplorer(space, budget), evaluations=evaluations, study=study, budget=budget)
    assert len(study.trials) == 9


def test_evonas_imports_without_torch():
    import subprocess
    import sys

    code = "import evonas, sys; sys.exit('torch' in sys.modules or 'xgboost' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_system_without_trials_records_them(tmp_path):
    """One trial an epoch, whole in a single write; costs, constraints and attributes stand in it, and a search goes on from there."""
    space, budget, fitness = example()
    study = open_study(tmp_path / "study.log", "recorded")
    population = space.sample(30, np.random.default_rng(0))
    numbers = [
        record(study, space, row, score, budget=budget, attributes={"epoch": i})
        for i, (row, score) in enumerate(zip(population, [*fitness(population[:-1]), np.nan], strict=True))
    ]
    assert numbers == list(range(30))
    again = open_study(tmp_path / "study.log", "recorded")
    for i, trial in enumerate(again.trials):
        assert trial.user_attrs["epoch"] == i
        assert trial.user_attrs["macs"] == pytest.approx(budget.costs["macs"](population[[i]])[0], rel=1e-5)  # told in six digits
        assert trial.system_attrs["constraints"] == budget.violations(population[[i]])[0].tolist()
        assert trial.state == (optuna.trial.TrialState.FAIL if i == 29 else optuna.trial.TrialState.COMPLETE)
    result = search(space, fitness, EvolutionExplorer(space, budget), evaluations=40, study=again, budget=budget)
    assert result.evaluations == 40
    np.testing.assert_array_equal(result.history.population[:30], population)


def test_a_study_of_a_front_is_one_of_several_objectives(tmp_path):
    """Optuna's own front of the study is that of the scores and costs; costs are those that trials carry."""
    space, budget, fitness = example()
    study = open_study(tmp_path / "study.log", "front", costs=["macs"])
    explorer = ParetoExplorer(space, budget, costs=["macs"], seed=0)
    history = search(space, fitness, explorer, evaluations=60, study=study, budget=budget).history
    again = optuna.load_study(study_name="front", storage=study._storage)
    assert all(trial.values == [history.scores[trial.number], trial.user_attrs["macs"]] for trial in again.trials)
    points = [(-score, macs) for score, macs in (trial.values for trial in again.trials)]
    front = [number for number, (a, b) in enumerate(points) if not any(c <= a and d <= b and (c, d) != (a, b) for c, d in points)]
    assert [trial.number for trial in again.best_trials] == front
    other = open_study(None, "other", costs=["joules"])
    with pytest.raises(UsageError, match="objective 'joules' beside the score"):
        search(space, fitness, explorer, evaluations=60, study=other, budget=budget)
