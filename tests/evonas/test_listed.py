"""Lists of architectures and tables of one's own, searched by any explorer; and what is refused at the entrance."""

import numpy as np
import optuna
import pytest

from evonas import EXPLORERS, BayesianExplorer, Budget, Choice, RandomExplorer, SearchSpace, UsageError, open_study, profile, search
from evonas.tabular import Lookup, read_csv
from evonas.testing import TableCost, example
from predictors import GaussianProcess
from predictors.accuracy.encoding import option_numbers

optuna.logging.set_verbosity(optuna.logging.ERROR)


def listed(count=120, seed=0):
    """Some of 4,096 networks, with scores and a budget that most of them keep."""
    space, budget, fitness = example(choices=6, options=4, upper=0.9)
    rows = np.unique(space.sample(4 * count, np.random.default_rng(seed)), axis=0)
    return space.only(np.random.default_rng(seed).permutation(rows)[:count]), budget, fitness


@pytest.mark.parametrize("name", EXPLORERS)
def test_any_explorer_proposes_what_is_listed_until_all_of_it_is_scored(name):
    space, budget, fitness = listed(40)
    wanted = {key for key, kept in zip(space.keys(space.enumerate()), budget.feasible(space.enumerate()), strict=True) if kept}
    if name == "coordinate-descent":  # whose steps would fall between what is listed
        with pytest.raises(UsageError, match="expected a space without a list"):
            EXPLORERS[name].make(space, budget, 0)
        return
    explorer = EXPLORERS[name].make(space, budget, 0)
    result = search(space, fitness, explorer, evaluations=100, study=open_study(None, name), budget=budget)
    proposed = space.keys(result.history.population)
    assert len(set(proposed)) == len(proposed)
    assert set(proposed) <= set(space.keys(space.enumerate()))
    if name != "progressive":  # which grows from small ones, that may not be listed
        assert set(proposed) == wanted
        assert result.stopped == "exhausted"


def test_a_list_is_a_space():
    """What it counts, contains, samples and names, against the list."""
    space, budget, _ = listed()
    rows = space.enumerate()
    assert space.count() == len(rows) == 120
    assert space.contains(rows).all()
    everything = SearchSpace(space.choices).enumerate()
    assert space.contains(everything).sum() == 120
    sampled = space.sample(5000, np.random.default_rng(0))
    assert set(space.keys(sampled)) == set(space.keys(rows))
    narrowed = space.narrow({space.names[0]: [space.choices[0].options[0]]})
    assert narrowed.count() == (rows[:, 0] == 0).sum()
    assert narrowed.enumerate().tolist() == rows[rows[:, 0] == 0].tolist()
    (found,) = profile(space, budget).ranges
    macs = budget.costs["macs"](rows)
    assert (found.smallest, found.largest) == (macs.min(), macs.max())
    missing = everything[~space.contains(everything)][0]
    with pytest.raises(UsageError, match="none of the 120 that this space lists"):
        space.population([missing])
    with pytest.raises(UsageError, match="at least one"):
        space.only(rows[:0])


def test_a_file_of_trained_networks_is_searched(tmp_path):
    """The best of 200 in fewer than half as many queries; repeated rows are averaged, numbers are in order."""
    rng = np.random.default_rng(1)
    lines = ["width,kernel,accuracy,act,ms"]
    truth = {}
    for width in (8, 16, 24, 32, 40, 128):
        for kernel in (3, 5, 7, 11):
            for act in ("relu", "swish"):
                if rng.random() < 0.9:
                    truth[width, kernel, act] = 0.5 + 0.1 * np.log2(width / 8) - 0.01 * (kernel - 7) ** 2 + 0.02 * (act == "swish")
                    lines.append(f"{width},{kernel},{truth[width, kernel, act]:.6f},{act},{width * kernel}")
    lines.append(lines[1])
    path = tmp_path / "trained.csv"
    path.write_text("\n".join(lines) + "\n")
    table = read_csv(path, ["accuracy", "ms"])
    assert len(table) == len(truth) == table.space.count()
    assert table.space.choices[0].options == ("8", "16", "24", "32", "40", "128")
    budget = Budget({"ms": table.lookup("ms", unit="ms")}, ["ms=300"])
    explorer = BayesianExplorer(table.space, budget, predictor=GaussianProcess(table.space), seed=0)
    result = search(table.space, table.lookup("accuracy"), explorer, evaluations=15, study=open_study(None, "csv"), budget=budget)
    best = max(value for (width, kernel, _), value in truth.items() if width * kernel <= 300)
    assert result.history.scores.max() == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,score\n", "0 rows"),
        ("score\n1\n", "0 choices"),
        ("a,b\nx,1\n", "Unknown column 'score'"),
        ("a,score\nx,high\n", "line 2: score is 'high'"),
        ("a,score\nx,nan\n", "expected a number"),
        ("a,score\nx\n", "every row complete"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_csv(tmp_path / "t.csv", ["score"])
    with pytest.raises(UsageError, match="Cannot read"):
        read_csv(tmp_path / "none.csv", ["score"])


def test_options_are_texts():
    with pytest.raises(UsageError, match="expected texts"):
        Choice("w", (8, 16))
    with pytest.raises(UsageError, match="expected texts"):
        Choice("w", ["8", "16"])


def test_numbers_of_any_form_are_in_order():
    space = SearchSpace((Choice("shift", ("1", "-1", "1e-3")), Choice("op", ("a", "b", "nan"))))
    assert option_numbers(space, np.array([[0, 0], [1, 1], [2, 2]])).tolist() == [[1.0], [0.0], [0.5]]


def test_a_table_names_what_it_repeats():
    space = SearchSpace((Choice("a", ("x", "y")), Choice("b", ("x", "y"))))
    with pytest.raises(UsageError, match=r"twice, in rows 2 and 4: {'a': 'y', 'b': 'x'}"):
        Lookup(space, np.array([[0, 0], [1, 0], [0, 1], [1, 0]]), [1, 2, 3, 4])
    with pytest.raises(UsageError, match=r"lists \(0, 2\)"):
        Lookup(space, np.array([[0, 0], [0, 2]]), [1, 2])


def test_a_fitness_of_two_columns_is_refused():
    space, budget, fitness = example()
    with pytest.raises(UsageError, match=r"returned shape \(50, 2\) for 50 architectures"):
        search(
            space,
            lambda rows: np.stack([fitness(rows)] * 2, axis=1),
            RandomExplorer(space, budget),
            evaluations=50,
            study=open_study(None, "two"),
        )


def test_a_large_space_is_not_called_exhausted():
    """One network in 4e12 keeps the budget; nobody can say that there is no other."""
    space = SearchSpace(tuple(Choice(f"c{i}", ("a", "b", "c", "d")) for i in range(21)))
    budget = Budget({"macs": TableCost(np.array([[0.0, 1, 2, 3]] * 21))}, ["macs=0"])
    explorer = RandomExplorer(space, budget)
    result = search(space, lambda rows: np.zeros(len(rows)), explorer, evaluations=5, study=open_study(None, "few"), budget=budget)
    assert result.stopped == "none found"
    assert result.evaluations <= 1
