"""A study that is read again and again: the same as all of it read anew, whatever happened in between."""

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from evonas import Budget, Choice, SearchSpace, open_study
from evonas.reading import read
from evonas.study import REPEATS, History, distributions, store_proposals

SPACE = SearchSpace(
    (Choice("a", ("x", "y", "z")), Choice("b", ("1", "2")), Choice("c", ("1", "2"))),
    canonicalise=lambda rows: np.where(rows[:, :1] == 0, rows * [1, 0, 0], rows),  # of x, the others do not matter
)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["propose", "ask", "tell", "fail", "repeat", "read"]), st.integers(0, 1000), st.floats(-1, 1)), max_size=40
)


def told(study, trial, state, values=None):
    study._storage.set_trial_state_values(trial._trial_id, state, values)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.booleans())
def test_what_is_read_bit_by_bit_is_what_is_read_at_once(events, journal):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        study = open_study(f"{folder}/study.log" if journal else None, "read")
        rows = SPACE.enumerate()
        for kind, number, score in events:
            trials = study.get_trials(deepcopy=False)
            running = [trial for trial in trials if not trial.state.is_finished()]
            trial = running[number % len(running)] if running else None
            if kind == "propose":
                store_proposals(study, SPACE, Budget(), rows[number % len(rows)][None], len(trials), "me", [{}], {})
            elif kind == "ask":  # another program's: its parameters come one after another
                asked = study.ask()
                for name, distribution in list(distributions(SPACE).items())[: number % 4]:
                    asked._suggest(name, distribution)
            elif kind == "read":
                read(study, SPACE)
            elif trial is not None and kind == "repeat":
                study._storage.set_trial_user_attr(trial._trial_id, REPEATS, 0)
                told(study, trial, TrialState.PRUNED)
            elif trial is not None:
                told(study, trial, *((TrialState.COMPLETE, [score]) if kind == "tell" else (TrialState.FAIL,)))
        found, trials = read(study, SPACE), study.get_trials(deepcopy=False)
        for stop in (None, len(trials) // 2):
            whole, again = History.of_trials(trials[:stop], SPACE), found.history(stop)
            np.testing.assert_array_equal(again.numbers, whole.numbers)
            np.testing.assert_array_equal(again.population, whole.population)
            np.testing.assert_array_equal(again.scores, whole.scores)
        assert found.history().keys >= whole.keys
        assert found.unfinished == [trial.number for trial in trials if not trial.state.is_finished()]
        counted = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.FAIL) and REPEATS not in t.user_attrs]
        assert found.evaluations == len(counted)
        assert found.best == pytest.approx(max((t.value for t in trials if t.value is not None), default=np.nan), nan_ok=True)
        assert all(trial.distributions == {name: distributions(SPACE)[name] for name in trial.params} for trial in trials)


def test_a_finished_trial_is_looked_at_once(monkeypatch):
    study = open_study(None, "once")
    store_proposals(study, SPACE, Budget(), SPACE.enumerate()[:8], 0, "me", [{}] * 8, {})
    for trial in study.get_trials(deepcopy=False)[:6]:
        told(study, trial, TrialState.COMPLETE, [1.0])
    read(study, SPACE)
    looked, finished = [], TrialState.is_finished
    monkeypatch.setattr(TrialState, "is_finished", lambda state: looked.append(state) or finished(state))
    read(study, SPACE)
    assert len(looked) <= 4, "two are unfinished"
    assert optuna.trial.TrialState.COMPLETE not in looked
