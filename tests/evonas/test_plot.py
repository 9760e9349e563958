"""Figures of a search: what stands in them is what the study holds."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas import EvolutionExplorer, UsageError, open_study, plot, search
from evonas.testing import example


@pytest.fixture(scope="module")
def study():
    space, budget, fitness = example()
    study = open_study(None, "plot")
    search(space, fitness, EvolutionExplorer(space, budget), evaluations=40, study=study, budget=budget)
    return study


def trace(figure, name):
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def test_points_are_the_trials_and_the_front_is_theirs(study):
    scored = plot.Scored.of(study)
    figure = plot.against_cost(scored, "macs", control=plot.Scored.of(study.trials[:7]), bounds=[3.0])
    trials = [trial for trial in study.trials if trial.values is not None]
    points = [(trial.user_attrs["macs"], 100 * trial.value) for trial in trials]
    drawn = trace(figure, "search")
    np.testing.assert_allclose(np.transpose([drawn.x, drawn.y]), points)
    assert list(drawn.customdata) == [trial.number for trial in trials]
    assert len(trace(figure, "random search").x) == len([trial for trial in study.trials[:7] if trial.values is not None])
    undominated = {p for p in points if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)}
    front = trace(figure, "front of the search")
    np.testing.assert_allclose(sorted(np.transpose([front.x, front.y]).tolist()), sorted(undominated))
    assert [shape.x0 for shape in figure.layout.shapes] == [3.0]
    for trial, text in zip(trials, drawn.text, strict=True):
        assert all(option in text for option in trial.params.values())
    with pytest.raises(UsageError, match=r"The trials tell no latency_ms; expected one of .*macs"):
        scored.cost("latency", "ms")


def test_the_best_so_far_is_that_within_the_budget(study):
    scored = plot.Scored.of(study)
    drawn = plot.best_so_far(scored).data[0]
    best = np.nan
    for i, trial in enumerate(trial for trial in study.trials if trial.values is not None):
        if all(violation <= 0 for violation in trial.system_attrs["constraints"]):
            best = np.nanmax([best, trial.value])
        np.testing.assert_equal(drawn.y[i], best)
        if np.isfinite(best):  # and the network under the mouse is the one that has it
            assert study.trials[int(drawn.customdata[i])].value == best
            assert drawn.text[i] == plot.under_the_mouse(study.trials[int(drawn.customdata[i])].params)


def test_a_winner_stands_where_it_was_measured_and_where_it_was_predicted(study):
    scored = plot.Scored.of(study)
    moved = plot.against_cost(scored, "macs", winner=plot.Winner(0.5, 4.0, 2.0))
    assert (list(trace(moved, "winner, as predicted").x), list(trace(moved, "winner, measured").x)) == ([2.0, 4.0], [4.0])
    still = plot.against_cost(scored, "macs", winner=plot.Winner(0.5, 4.0, 4.001))
    assert list(trace(still, "winner").x) == [4.0]
    assert "winner, as predicted" not in [trace.name for trace in still.data]


def test_fronts_and_comparisons_show_what_was_delivered(study):
    figure = plot.front(plot.Scored.of(study), "macs", delivered=[(5.0, 0.7, "b"), (2.0, 0.6, "a")])
    drawn = trace(figure, "delivered: test accuracy")
    assert (list(drawn.x), list(drawn.y), list(drawn.text)) == ([2.0, 5.0], [60.0, 70.0], ["a", "b"])
    many = {f"run {i}": [(float(i), 0.5, "n")] for i in range(12)}  # more than there are colours
    assert [trace.name for trace in plot.compared(many, "macs").data] == list(many)


def test_losses_and_predictions_are_drawn_as_they_are():
    figure = plot.losses({"supernet": [{"loss": 3.0}, {"loss": 2.0}], "winner": [{"loss": 1.0, "teacher": 0.5}]})
    many = {f"finalist{i}": [{"loss": 1.0}] for i in range(11)}
    assert [trace.name for trace in plot.losses(many).data] == list(many)
    assert {trace.name: list(trace.y) for trace in figure.data} == {
        "supernet": [3.0, 2.0],
        "winner": [1.0],
        "winner: teacher": [0.5],
    }
    drawn = trace(plot.foretold(np.array([1.0, 2.0]), np.array([1.5, 1.0])), "networks")
    assert (list(drawn.x), list(drawn.y)) == ([1.0, 2.0], [1.5, 1.0])


def test_an_architecture_in_lines_has_a_stage_a_line():
    names = {"stage0.block0.op": "mb3_k3", "stage0.block1.op": "skip", "stage1.block0.op": "mb6_k5", "stage1.block0.width": "0.5"}
    assert plot.in_lines(names) == ["stage0: mb3_k3, skip", "stage1: mb6_k5+0.5"]
    assert plot.in_lines({"depth": "3", "width": "8"}) == ["depth 3, width 8"]
    long = plot.under_the_mouse({f"stage{i}.block0.op": "mb3_k3" for i in range(60)}).split("<br>")
    assert (len(long), long[-1]) == (plot.LINES, "... 37 more lines")
    wide = {f"stage0.block{i}.op": f"operator_{i}" for i in range(12)}
    wrapped = plot.under_the_mouse(wide)
    assert max(map(len, wrapped.split("<br>"))) <= plot.LINE
    assert wrapped.replace("<br>\N{NO-BREAK SPACE}", " ") == plot.in_lines(wide)[0]  # as the page puts it together again


@given(st.dictionaries(st.from_regex(r"s[0-3]\.b[0-9]\.[a-z]{1,3}", fullmatch=True), st.sampled_from(["k3", "k5", "skip"]), max_size=30))
def test_no_option_of_an_architecture_is_left_out(names):
    words = " ".join(plot.in_lines(names)).replace(",", " ").replace("+", " ").split()
    for option in ("k3", "k5", "skip"):
        assert words.count(option) == list(names.values()).count(option)


def test_nothing_a_network_is_called_ends_the_page(tmp_path):
    """Names come from whoever made the run."""
    from recipes.runner.pages.page import Picture, write_page

    evil = "</script><script>alert(1)</script>"
    figure = plot.compared({evil: [(1.0, 0.5, evil)]}, evil)
    rows = [{"test": 0.5, "run": evil, "lines": [evil], "told": {}}]
    page = write_page(tmp_path, "compare.html", images=[Picture("", evil, figure)], rows=rows, runs=[evil])
    text = page.read_text()
    assert "<script>alert" not in text
    content = text.split('<script type="application/json" id="figure1">')[1].split("</script>")[0]
    assert json.loads(content)["data"][0]["name"] == evil
