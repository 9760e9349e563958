"""The movements that recipes are made of. Each keeps its output in the run folder and is skipped when that is there."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import torch
from torch import nn

from evonas import Budget, Explorer, RandomExplorer, SearchResult, check_reachable, parse_bounds, profile, search
from evonas.budget import Cost
from evonas.errors import UsageError
from evonas.files import inside, read_json, write_json
from evonas.fusion import Both, FusedFitness
from evonas.sampling import draw_feasible
from evonas.search import Fitness
from evonas.space import Architecture, Population, SearchSpace
from evonas.storage import patiently, repair_journal
from evonas.study import agree, agreed, join
from predictors.devices import runtime
from predictors.devices.learned import learned_table
from predictors.devices.table import LatencyTable, corrected, measure_blocks, read_table, spread
from recipes.runner.asked import AskedOneShot
from recipes.runner.delivery import first_within
from recipes.runner.final_training import FinalTraining
from recipes.runner.finalists import race
from recipes.runner.progress import bar, say, show_profile
from recipes.runner.run_folder import JOURNAL, RunFolder, studies_of
from recipes.runner.shared import artifact_store, trained_once
from recipes.runner.training import train_into
from supernet.archive import digest_of
from supernet.chain import ChainSupernet
from supernet.data import ImageData
from supernet.evaluation import recalibrate
from supernet.fitness import InheritedFitness
from supernet.training.checkpoint import load_checkpoint, restore
from supernet.training.way import Way

NETWORKS_MEASURED_WHOLE = 10
REESTIMATION_BATCH, REESTIMATION_SEED = 128, (0, 0)
LATENCY, FINALISTS, WINNER = "latency", "finalists", "winner"
FINALISTS_APART = 0.25  # of the choices
REFERENCE = 512  # networks that scores are scaled by, at most
EXPECTED_WORKERS = 4  # in a storage that others can reach; how many there will be is not known when the first one begins


@dataclass(frozen=True)
class Limits:
    """What a search has to keep.

    Attributes:
        budget: all costs, and the bounds.
        table: the latency table among them; None where latency is no cost.
    """

    budget: Budget
    table: LatencyTable | None


def bounded(run: RunFolder, supernet: ChainSupernet, known: Mapping[str, Cost], asked: AskedOneShot, *, timed: bool) -> Limits:
    """The costs of the space and the bounds on them: profiled, shown, and refused when no network meets them.

    What only needs counting is checked before latency is measured.

    Args:
        known: the costs that are counted, by name.
        timed: whether latency is a cost; there is no table otherwise.

    Raises:
        UsageError: a malformed bound, or one that nothing satisfies.
    """
    space, bounds = supernet.space, asked.bounds
    if not timed:
        return Limits(_checked(space, Budget(known, parse_bounds(bounds, space, known))), None)
    units = {**{name: cost.unit for name, cost in known.items()}, LATENCY: "ms"}
    for bound in bounds:
        bound.check(units)
    counted = Budget(known, parse_bounds([bound for bound in bounds if bound.cost != LATENCY], space, known))
    check_reachable(space, counted, profile(space, counted))
    table = _latency(run, supernet, asked)
    say(f"latency of {table.device}: {table.residual or 'from the file, not corrected'}")
    both: dict[str, Cost] = {**known, LATENCY: table}
    return Limits(_checked(space, Budget(both, parse_bounds(bounds, space, both))), table)


def _checked(space: SearchSpace, budget: Budget) -> Budget:
    found = profile(space, budget)
    show_profile(found)
    say(f"budget: {budget}; {found.acceptance} meet it")
    check_reachable(space, budget, found)
    return budget


def begin(run: RunFolder, limits: Limits, space: SearchSpace, asked: AskedOneShot, search: Mapping[str, Any]) -> list[optuna.Study]:
    """Everything is checked: join the search, keep arguments and latency table. Gives the studies of the search and of its baseline.

    The studies are in the run folder's journal, or in a storage of the user's.

    Args:
        search: what decides the results of the search, see `evonas.study.join`.

    Raises:
        UsageError: the storage cannot be opened, or holds another search under that name; nothing is written then.
    """
    if asked.storage is None:
        run.begin()
        if note := repair_journal(run / JOURNAL):
            say(note)
    studies = studies_of(run.path, asked.storage, asked.study, trusted=asked.trust_storage)
    for study in studies:
        join(study, space, {**search, "budget": limits.budget.plain_bounds(), "latency": _digest_of_table(limits.table, space)})
    run.begin()
    if limits.table is not None:
        limits.table.save(run / "latency.json", space)
    return studies


def train_supernet(
    run: RunFolder,
    supernet: ChainSupernet,
    way: Way,
    data: ImageData,
    identity: Any,
    asked: AskedOneShot,
    studies: Sequence[optuna.Study],
    **settings: Any,
) -> None:
    """Train the supernet into `supernet.pt`, go on where training stopped, or take a trained one, from another run or another worker.

    A way that narrows the space leaves the supernet with the narrowed one, here as well as where it is taken. Its weights belong to the
    search from then on.

    Args:
        settings: of `supernet.train`.

    Raises:
        UsageError: another worker of the search has other weights.
    """
    path, whole = run / "supernet.pt", supernet.space
    if asked.from_run is not None:
        restore(supernet, way, trained_supernet(asked.from_run, identity))
        say(f"supernet: taken from {asked.from_run}")
    else:

        def train_here() -> None:
            train_into(path, "train supernet", supernet, way, data.train, identity=identity, **settings)

        if asked.artifacts is not None:
            trained_once(studies[0], artifact_store(asked.artifacts), path, train_here)
        train_here()  # nothing is left to train where it was taken
    for study in studies:
        join(study, whole, {"supernet": digest_of(supernet.state_dict())})


def trained_supernet(run: str, identity: Any) -> dict[str, Any]:
    """The checkpoint of another run's supernet.

    Raises:
        UsageError: there is none that can be used here, or its training is not finished.
    """
    path = inside(Path(run), "supernet.pt")
    content = load_checkpoint(path, identity)
    done = len(content["losses"])
    if done < content.get("epochs", done):
        raise UsageError(f"The supernet {path} has {done} of {content['epochs']} epochs; finish that run first.")
    return content


def after_narrowing(before: SearchSpace, supernet: ChainSupernet, budget: Budget) -> None:
    """Say what training left of the space, and refuse a budget that nothing of it meets; nothing happens where it is all there.

    Raises:
        UsageError: no network of the narrowed space meets the bounds.
    """
    if supernet.space.allowed != before.allowed:
        say(f"training narrowed the space from {before.count():.4g} to {supernet.space.count():.4g} networks")
        _checked(supernet.space, budget)


def search_beside_random(
    explorer: Explorer, fitness: Fitness, reference: Population, studies: Sequence[optuna.Study], evaluations: int, *, shared: bool
) -> tuple[SearchResult, SearchResult]:
    """The search and, with as many evaluations, the random search that it has to beat.

    Args:
        reference: random networks that random search begins with.
        shared: whether others may join, for whom something of every generation is left.
    """
    results = []
    control = RandomExplorer(explorer.space, explorer.budget, seed=explorer.seed, first=reference)
    for study, sampler, what in zip(studies[:2], (explorer, control), ("search", "random baseline"), strict=True):
        with bar(what) as update:

            def show(done: int, best: float, update: Any = update) -> None:
                update(done / evaluations, f"best {best:.2f}")

            results.append(
                search(
                    explorer.space,
                    fitness,
                    sampler,
                    evaluations=evaluations,
                    study=study,
                    budget=explorer.budget,
                    batch=math.ceil(sampler.generation_size / EXPECTED_WORKERS) if shared else None,
                    on_progress=show,
                    on_note=say,
                )
            )
        if results[-1].stopped == "exhausted":
            say(f"{what}: all {results[-1].evaluations} networks that meet the budget are scored")
    return results[0], results[1]


def scored_by(
    run: RunFolder, fitness: InheritedFitness, cheap: Sequence[Cost], explorer: Explorer, study: optuna.Study, evaluations: int
) -> tuple[FusedFitness, Population]:
    """What the search ranks networks by: likelihood, fused with cheap scores against a reference population, into `reference.json`.

    The reference is drawn once from the networks that keep the budget; the likelihoods that the first worker of a search gave it are
    those of all. It is what random search begins with, so that it costs nothing.
    """
    path, wanted = run / "reference.json", min(REFERENCE, evaluations)
    rows = draw_feasible(explorer.space, explorer.budget, wanted, np.random.default_rng([explorer.seed, 23]))
    if not path.exists():
        scores = patiently(lambda: agreed(study, "reference"), say)
        if scores is None:
            with bar("reference networks"):
                scores = [values.tolist() for values in fitness.both(rows)]
            scores = patiently(lambda: agree(study, "reference", scores), say)
        named = [explorer.space.to_names(row) for row in rows]
        entries = zip(named, *scores, strict=True)
        write_json(path, [{"architecture": names, "accuracy": one, "likelihood": other} for names, one, other in entries])
    known = np.array([[entry["accuracy"], entry["likelihood"]] for entry in read_json(path)], dtype=np.float64).reshape(-1, 2)
    return FusedFitness(remembering(fitness.both, rows, known), cheap, rows, known[:, 1]), rows


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


def choose(
    run: RunFolder,
    explorer: Explorer,
    found: SearchResult,
    study: optuna.Study,
    measure: Callable[[Architecture], dict[str, float]],
    *,
    wanted: int,
) -> dict[str, Any]:
    """The finalists, into `finalists.json`: the first that the explorer recommends and that keep every bound when measured whole.

    What the first worker of a search chose are the finalists of all.

    Args:
        study: of the search.
        measure: costs of a finished network that replace the tables'.
        wanted: how many.
    """
    path = run / "finalists.json"
    if not path.exists():
        apart = math.ceil(len(explorer.space) * FINALISTS_APART)
        accuracies = {trial.number: trial.user_attrs.get("accuracy") for trial in patiently(lambda: study.get_trials(deepcopy=False), say)}
        chosen = patiently(lambda: agreed(study, FINALISTS), say)
        if chosen is None:
            chosen = first_within(explorer, found, measure, wanted=wanted, apart=apart, accuracy=accuracies.get)
            chosen = patiently(lambda: agree(study, FINALISTS, chosen), say)
        write_json(path, chosen)
    chosen = read_json(path)
    count = len(chosen["finalists"])
    say(
        f"{count} finalist{'s' if count > 1 else ''}, the first with inherited accuracy {100 * chosen['finalists'][0]['inherited']:.1f} %; "
        f"{len(chosen['tried'])} measured whole"
    )
    return dict(chosen)


def decide(
    run: RunFolder,
    training: FinalTraining,
    chosen: Mapping[str, Any],
    explorer: Explorer,
    data: ImageData,
    studies: Sequence[optuna.Study],
    device: torch.device,
    *,
    shared: bool,
) -> dict[str, Any]:
    """The winner, into `winner.json`: the finalist that a part of its training shows to be the best. It goes on from where it stands.

    Args:
        chosen: what `choose` gave.
        studies: of the search, whose first worker decides for all, and of the finalists, the last.
        shared: whether other workers may train the same finalists: each begins with another one.
    """
    path, finalists = run / "winner.json", chosen["finalists"]
    if not path.exists():
        position = patiently(lambda: agreed(studies[0], WINNER), say)
        if position is None:
            ahead = os.getpid() if shared else 0
            position = race(run.path, training, finalists, data.search, studies[-1], explorer.space, explorer.budget, device, ahead)
            position = patiently(lambda: agree(studies[0], WINNER, position), say)
        begun = run / f"finalist{position}.pt"
        if begun.exists():
            begun.replace(run / "retrain.pt")
        for left in run.path.glob("finalist[0-9]*"):
            left.unlink()
        write_json(path, {**finalists[position], "position": position, "tried": chosen["tried"]})
    winner: dict[str, Any] = read_json(path)
    say(f"winner: finalist {winner['position'] + 1}, inherited accuracy {100 * winner['inherited']:.1f} %")
    return winner


def best_of(study: optuna.Study, result: SearchResult) -> dict[str, Any]:
    """What random search came to, for the result."""
    history = result.history
    found: dict[str, Any] = {"explorer": "random", "evaluations": result.evaluations, "score": None, "inherited": None}
    if len(history.scored):
        best = int(history.scored[0])
        trial = study.get_trials(deepcopy=False)[int(history.numbers[best])]
        found |= {"score": float(history.scores[best]), "inherited": trial.user_attrs.get("accuracy", trial.value)}
    return found


def reestimate(network: nn.Module, data: ImageData, device: torch.device) -> None:
    """Batch-norm statistics as means over batches of all training images, as the SPOS code ends a retraining.

    The images are augmented as in training: with plain ones, networks lost a point of accuracy (docs/evidence.md).
    """
    recalibrate(network.to(device), data.train.epoch(REESTIMATION_BATCH, REESTIMATION_SEED, device))


def _latency(run: RunFolder, supernet: ChainSupernet, asked: AskedOneShot) -> LatencyTable:
    """The run's own table where it has one, else the user's file, else that of the search that it joins, else this host's.

    This host is measured block by block, and corrected by whole networks.
    """
    space, file = supernet.space, asked.latency_table
    if (run / "latency.json").exists() and not run.fresh:
        return read_table(run / "latency.json", space)
    if file is not None:
        if Path(file).suffix != ".csv":
            return read_table(Path(file), space)
        learned, notes = learned_table(Path(file), space, supernet.parts())
        for note in notes:
            say(note)
        return learned
    if asked.storage is None:
        return _measured(supernet, asked.seed)
    study = studies_of(run.path, asked.storage, asked.study, trusted=asked.trust_storage)[0]
    known = patiently(lambda: agreed(study, LATENCY), say)
    if known is None:
        table = _measured(supernet, asked.seed)
        known = patiently(lambda: agree(study, LATENCY, table.plain(space)), say)
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "latency.json", known)
        return read_table(Path(folder) / "latency.json", space)


def _measured(supernet: ChainSupernet, seed: int) -> LatencyTable:
    with bar("measure latency") as update:
        table = measure_blocks(supernet.space, supernet.parts(), on_progress=lambda share: update(0.7 * share))
        networks = spread(supernet.space, table, NETWORKS_MEASURED_WHOLE, seed)
        measured = []
        for i, row in enumerate(networks):
            measured.append(runtime.measure(supernet.subnet(row), supernet.image_shape))
            update(0.7 + 0.3 * (i + 1) / len(networks))
    return corrected(table, networks, measured)


def _digest_of_table(table: LatencyTable | None, space: SearchSpace) -> str | None:
    return None if table is None else hashlib.sha256(json.dumps(table.plain(space), sort_keys=True).encode()).hexdigest()[:16]
