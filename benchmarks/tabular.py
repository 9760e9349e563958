"""Every explorer on tables where the truth is known: queries until the optimum is read, and the best network after n queries.

A query reads one accuracy; an explorer starts from nothing and knows only the space. NAS-Bench-201 tables give the mean test
accuracy after 200 epochs (an oracle protocol, to compare explorers; a run ends when the optimum is read). NAS-Bench-Macro gives one noisy
run of three for each network; what counts is the true mean of the network that the explorer recommends: of ours by `recommend`, of the
others the best read. Rows are kept in `--rows`, so that an interrupted benchmark goes on.

    OMP_NUM_THREADS=1 python benchmarks/tabular.py --data DATA [--table T ...] [--explorer E ...] [--seeds 30] [--budget 300]

The last line is a JSON list of {table, explorer, seeds, queries_to_optimum, found, best_at}; a run that did not read the optimum
counts `--budget` queries. Peers need `pip install -e '.[benchmarks]'`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rows import Rows
from sklearn.pipeline import make_pipeline

from evonas import (
    AgeingEvolutionExplorer,
    BayesianExplorer,
    EvolutionExplorer,
    Explorer,
    History,
    ProgressiveExplorer,
    RandomExplorer,
    ScreenedExplorer,
    SearchSpace,
    open_study,
    search,
)
from evonas.tabular import Table, nasbench201, nasbench_macro
from predictors import BoostedTrees, Ensemble, GaussianProcess, NormalScores, one_hot

TABLES = ("nb201-cifar10", "nb201-cifar100", "nb201-in16", "macro")
CHECKPOINTS = (25, 50, 100, 150, 200, 300)
CAPPED = {"optuna-gp": 150}  # an ask costs half a second by then


def trees(space: SearchSpace) -> Any:
    return NormalScores(make_pipeline(one_hot(space.sizes), BoostedTrees()))


def progressive(space: SearchSpace, seed: int) -> Explorer:
    return ProgressiveExplorer(space, predictor=make_pipeline(one_hot(space.sizes), Ensemble(BoostedTrees(1))), beam=16, seed=seed)


OURS: dict[str, Callable[[SearchSpace, int], Explorer]] = {
    "random": lambda s, seed: RandomExplorer(s, seed=seed),
    "evolution": lambda s, seed: EvolutionExplorer(s, seed=seed),
    "regularised-evolution": lambda s, seed: AgeingEvolutionExplorer(s, seed=seed, population=50, sample=10),
    "screened-trees": lambda s, seed: ScreenedExplorer(EvolutionExplorer(s, seed=seed), trees(s), generation_size=10, warm_up=20),
    "progressive": progressive,
    "bayesian-trees": lambda s, seed: BayesianExplorer(s, predictor=trees(s), seed=seed, generation_size=10, initial=20, optimism=0.5),
    "bayesian": lambda s, seed: BayesianExplorer(s, predictor=GaussianProcess(s), seed=seed),
    "bayesian-batch5": lambda s, seed: BayesianExplorer(s, predictor=GaussianProcess(s), seed=seed, generation_size=5),
    "bayesian-batch10": lambda s, seed: BayesianExplorer(s, predictor=GaussianProcess(s), seed=seed, generation_size=10),
}
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "optuna-tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "optuna-nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "optuna-gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}
EXPLORERS = (*OURS, *SAMPLERS, "pymoo-ga")


def load(name: str, data: Path) -> tuple[Table, str, bool]:
    """The table, its column, and whether single runs are read."""
    if name == "macro":
        return nasbench_macro(data / "nasbench_macro.npz"), "test", True
    return nasbench201(data / "nasbench201_accuracy.npz"), name.replace("nb201-", "test200_"), False


class Solved(Exception):
    """The optimum was read; nothing is left to find."""


class Reader:
    """The fitness of one run: counts queries of different networks, and remembers the best."""

    def __init__(self, table: Table, column: str, noisy: bool, seed: int, budget: int) -> None:
        self.truth, self.budget = table.lookup(column), budget
        self.read = table.lookup(column, run=seed) if noisy else self.truth
        self.stops = not noisy
        self.optimum = float(self.truth(table.architectures).max())
        self.seen: dict[tuple[int, ...], float] = {}
        self.improvements: list[tuple[int, float]] = []
        self.best = -np.inf
        self.found: int | None = None

    def __call__(self, population: np.ndarray) -> np.ndarray:
        scores, truths = self.read(population), self.truth(population)
        for row, score, truth in zip(map(tuple, population.tolist()), scores.tolist(), truths.tolist(), strict=True):
            if row in self.seen or len(self.seen) >= self.budget:
                continue
            self.seen[row] = score
            if score > self.best:
                self.best = score
                self.improvements.append((len(self.seen), truth))
            if self.found is None and truth >= self.optimum - 1e-9:
                self.found = len(self.seen)
                if self.stops:
                    raise Solved
        return np.asarray(scores)

    def best_at(self, query: int) -> float:
        return [truth for at, truth in self.improvements if at <= query][-1]


def run(name: str, explorer: str, seed: int, budget: int, data: Path) -> dict[str, Any]:
    """One search; what it found."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table, column, noisy = load(name, data)
    limit = min(budget, CAPPED.get(explorer, budget))
    reader = Reader(table, column, noisy, seed, limit)
    recommended: dict[str, float] = {}
    study = open_study(None, "benchmark")

    def stop_repeating(done: int, best: float) -> None:
        """A sampler that has converged asks for what it knows, again and again."""
        if len(study.get_trials(deepcopy=False)) > 4 * limit:
            raise Solved

    try:
        if explorer == "pymoo-ga":
            pymoo_genetic(table.space, reader, limit, seed)
        else:
            ours = OURS[explorer](table.space, seed) if explorer in OURS else None
            sampler = ours or SAMPLERS[explorer](seed)
            for checkpoint in [c for c in CHECKPOINTS if c < limit] + [limit]:
                search(table.space, reader, sampler, evaluations=checkpoint, study=study, on_progress=stop_repeating)
                if noisy and ours is not None:
                    history = History.of(study, table.space)
                    recommended[str(checkpoint)] = float(reader.truth(history.population[ours.recommend(history)[:1]])[0])
    except Solved:
        pass
    best = {str(c): reader.best_at(c) for c in CHECKPOINTS if c <= limit} | recommended
    return {"table": name, "explorer": explorer, "seed": seed, "found": reader.found, "best_at": best, "curve": reader.improvements}


def pymoo_genetic(space: SearchSpace, reader: Reader, budget: int, seed: int) -> None:
    """pymoo's genetic algorithm as its documentation sets it up for integers, until the budget of different networks is read."""
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    repair = RoundingRepair()
    problem = Problem(n_var=len(space), n_obj=1, xl=0, xu=space.sizes - 1, vtype=int)
    algorithm = GA(
        pop_size=50,
        sampling=IntegerRandomSampling(),
        crossover=UniformCrossover(repair=repair),
        mutation=PM(prob=0.9, eta=3.0, vtype=float, repair=repair),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=("n_gen", 3 * budget // 50), seed=seed)
    while algorithm.has_next() and len(reader.seen) < budget:
        asked = algorithm.ask()
        asked.set("F", -reader(asked.get("X").astype(np.int64))[:, None])
        algorithm.tell(infills=asked)


def summary(rows: list[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """One entry for each table and explorer."""
    entries = []
    for table, explorer in dict.fromkeys((row["table"], row["explorer"]) for row in rows):
        own = [row for row in rows if (row["table"], row["explorer"]) == (table, explorer)]
        checkpoints = [c for c in own[0]["best_at"] if all(c in row["best_at"] for row in own)]
        entries.append(
            {
                "table": table,
                "explorer": explorer,
                "seeds": len(own),
                "queries_to_optimum": round(float(np.mean([row["found"] or budget for row in own])), 1),
                "found": round(float(np.mean([row["found"] is not None for row in own])), 3),
                "best_at": {c: round(100 * float(np.mean([row["best_at"][c] for row in own])), 3) for c in checkpoints},
            }
        )
    return entries


def margins(rows: list[dict[str, Any]], budget: int, ours: str) -> list[str]:
    """Paired over seeds: how far `ours` is ahead of every other explorer, with the 95 % interval of the mean."""
    lines = []
    by = {(row["table"], row["explorer"], row["seed"]): row for row in rows}
    for table, explorer in dict.fromkeys((row["table"], row["explorer"]) for row in rows):
        seeds = [seed for (t, e, seed) in by if (t, e) == (table, explorer) and (table, ours, seed) in by]
        if explorer == ours or not seeds:
            continue
        pairs = [(by[table, ours, seed], by[table, explorer, seed]) for seed in seeds]
        if table == "macro":
            if any("100" not in row["best_at"] for pair in pairs for row in pair):
                continue
            ahead, unit = np.array([100 * (a["best_at"]["100"] - b["best_at"]["100"]) for a, b in pairs]), "points at 100 queries"
        else:
            ahead, unit = np.array([(b["found"] or budget) - (a["found"] or budget) for a, b in pairs]), "queries fewer"
        half = 1.96 * ahead.std(ddof=1) / len(ahead) ** 0.5 if len(ahead) > 1 else float("nan")
        lines.append(
            f"{table}: {ours} against {explorer}: {ahead.mean():+.3g} {unit} [{ahead.mean() - half:+.3g}, {ahead.mean() + half:+.3g}]"
        )
    return lines


def draw(rows: list[dict[str, Any]], budget: int, path: Path) -> None:
    """Best network found against queries, the mean over seeds, one panel a table."""
    import matplotlib.pyplot as plt

    tables = list(dict.fromkeys(row["table"] for row in rows))
    names = list(dict.fromkeys(row["explorer"] for row in rows))
    figure, axes = plt.subplots(1, len(tables), figsize=(5 * len(tables), 4.2), squeeze=False)
    colours = plt.get_cmap("tab20").colors
    for panel, table in zip(axes[0], tables, strict=True):
        for name in names:
            own = [row for row in rows if (row["table"], row["explorer"]) == (table, name)]
            limit = min(budget, CAPPED.get(name, budget))
            queries = np.arange(5, limit + 1)
            curves = [[[v for at, v in row["curve"] if at <= q][-1] for q in queries] for row in own]
            if own:
                width, colour = (2.2 if name == "bayesian" else 1.2), colours[names.index(name) % 20]
                panel.plot(queries, 100 * np.mean(curves, axis=0), label=name, color=colour, lw=width)
        best = max(v for row in rows if row["table"] == table for _, v in row["curve"])
        panel.set(title=table, xlabel="queries", xscale="log", ylim=(100 * best - (2.5 if table != "macro" else 1), 100 * best + 0.1))
        panel.grid(alpha=0.3)
    axes[0, 0].set_ylabel("true accuracy of the best network read, %")
    figure.tight_layout()
    figure.legend(*axes[0, -1].get_legend_handles_labels(), fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=100, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("EVONAS_DATA"), help="folder of the tables; EVONAS_DATA unless given")
    parser.add_argument("--table", nargs="*", default=TABLES, choices=TABLES, help="all unless given")
    parser.add_argument("--explorer", nargs="*", default=EXPLORERS, choices=EXPLORERS, help="all unless given")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--budget", type=int, default=300, help="queries of one run")
    parser.add_argument("--ours", default="bayesian", choices=EXPLORERS, help="the explorer that the margins are of")
    parser.add_argument("--rows", type=Path, default=Path("runs/tabular.jsonl"), help="where finished runs are kept")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="draw the curves into this PNG")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data is missing: the folder with nasbench201_accuracy.npz and nasbench_macro.npz")
    rows, wanted = Rows(arguments.rows), []
    budget, data = arguments.budget, Path(arguments.data)
    jobs = [(t, e, s, budget, data) for t in arguments.table for e in arguments.explorer for s in range(arguments.seeds)]
    with ProcessPoolExecutor(arguments.processes) as pool:
        running = {}
        for job in jobs:
            key = "/".join(map(str, job[:4]))
            if key not in rows:
                running[key] = pool.submit(run, *job)
            wanted.append(key)
        found = [rows.row(key, lambda key=key: running[key].result(), quiet=True) for key in wanted]
    entries = summary(found, budget)
    for entry in entries:
        what, queries = f"{entry['table']:15} {entry['explorer']:22}", f"{entry['queries_to_optimum']:6} queries"
        print(f"{what} {queries}, found {entry['found']:.2f}, best at {entry['best_at']}")
    for line in margins(found, budget, arguments.ours):
        print(line)
    if arguments.picture:
        draw(found, budget, arguments.picture)
    print(json.dumps(entries))


if __name__ == "__main__":
    main()
