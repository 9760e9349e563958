"""What a search ranks networks by: the likelihood with inherited weights, fused with cheap scores against a reference that stays.

An explorer that walks through networks that break the budget is told the likelihood alone: fused scores are scaled by networks within.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import optuna

from evonas import Explorer
from evonas.budget import Cost
from evonas.files import read_json, write_json
from evonas.fusion import Both, FusedFitness
from evonas.sampling import draw_feasible
from evonas.search import Fitness, Scored
from evonas.space import Population
from evonas.storage import patiently
from evonas.study import agree, agreed
from recipes.runner.progress import bar, say
from recipes.runner.run_folder import RunFolder
from supernet.fitness import InheritedFitness

FUSED, PLAIN = "fused likelihood", "likelihood"
IN_WORDS = {
    FUSED: "likelihood with inherited weights, fused with MACs, in standard deviations",
    PLAIN: "log-likelihood with inherited weights, in nats",
}
REFERENCE = 512  # networks that scores are scaled by, at most


def scored_by(
    run: RunFolder, fitness: InheritedFitness, cheap: Sequence[Cost], explorer: Explorer, study: optuna.Study, evaluations: int
) -> tuple[Fitness, Population]:
    """What the search ranks networks by: likelihood, fused with cheap scores against a reference population, into `reference.json`.

    It is not fused where the explorer does not keep the budget. The reference is drawn once from the networks that do; the likelihoods that
    the first worker of a search gave it are those of all. It is what random search begins with, so that it costs nothing.
    """
    path, wanted = run / "reference.json", min(REFERENCE, evaluations)
    rows = draw_feasible(explorer.space, explorer.budget, wanted, np.random.default_rng([explorer.seed, 23]))
    if not path.exists():
        scores = patiently(lambda: agreed(study, "reference"), say)
        if scores is None:
            with bar("reference networks") as update:
                scores = [values.tolist() for values in fitness.both(rows)]
                update(1.0)
            scores = patiently(lambda: agree(study, "reference", scores), say)
        named = [explorer.space.to_names(row) for row in rows]
        entries = zip(named, *scores, strict=True)
        write_json(path, [{"architecture": names, "accuracy": one, "likelihood": other} for names, one, other in entries])
    known = np.array([[entry["accuracy"], entry["likelihood"]] for entry in read_json(path)], dtype=np.float64).reshape(-1, 2)
    both = remembering(fitness.both, rows, known)
    return FusedFitness(both, cheap, rows, known[:, 1]) if explorer.keeps_budget else likely(both), rows


def ranked_by(explorer: Explorer) -> str:
    """What that is, by name."""
    return FUSED if explorer.keeps_budget else PLAIN


def likely(both: Both) -> Fitness:
    """The likelihood as a fitness, with the accuracy beside it."""

    def score(population: Population) -> Scored:
        accuracy, likelihood = both(population)
        return Scored(likelihood, {"accuracy": accuracy, "likelihood": likelihood})

    return score


def remembering(both: Both, rows: Population, known: npt.NDArray[np.float64]) -> Both:
    """The same, without measuring again what is known of some rows."""
    memory = {tuple(row): values for row, values in zip(rows.tolist(), known, strict=True)}

    def look_up(population: Population) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        found = np.array([memory.get(tuple(row), (np.nan, np.nan)) for row in population.tolist()], dtype=np.float64).reshape(-1, 2)
        missing = np.isnan(found).any(axis=1)
        if missing.any():
            found[missing] = np.stack(both(population[missing]), axis=1)
        return found[:, 0], found[:, 1]

    return look_up
