"""The movements that recipes are made of. Each keeps its output in the run folder and is skipped when that is there."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from torch import nn

from evonas import Budget, Explorer, RandomExplorer, SearchResult, check_reachable, parse_bounds, profile, search
from evonas.budget import Bound, Cost, RequestedBound
from evonas.errors import UsageError
from evonas.files import inside, write_json
from evonas.search import Fitness
from evonas.space import Population, SearchSpace
from evonas.storage import patiently, repair_journal
from evonas.study import SEARCH, agree, agreed, attribute_name, join
from predictors.costs import size_of
from predictors.devices import runtime
from predictors.devices.learned import learned_table
from predictors.devices.table import LatencyTable, corrected, measure_blocks, read_table, spread
from recipes.runner.asked import AskedOneShot
from recipes.runner.notes import introduce
from recipes.runner.progress import bar, say, show_profile
from recipes.runner.run_folder import JOURNAL, RunFolder, read_config, studies_of
from recipes.runner.shared import artifact_store, trained_once
from recipes.runner.training import train_into
from supernet.archive import digest_of
from supernet.chain import ChainSupernet
from supernet.data import ImageData
from supernet.evaluation import recalibrate
from supernet.training.checkpoint import load_checkpoint, restore
from supernet.training.way import Way

NETWORKS_MEASURED_WHOLE = 10
REESTIMATION_BATCH, REESTIMATION_SEED = 128, (0, 0)
RANKED_BY = "ranked_by"
PARAMS, SIZE = "params", "size"
LATENCY = "latency"
UNSURE = 0.15  # mean relative error of a latency table that deserves a word
EXPECTED_WORKERS = 4  # in a storage that others can reach; how many there will be is not known when the first one begins


MeasureTable = Callable[[Any, int], LatencyTable]  # (supernet, seed) -> the latency of this host


@dataclass(frozen=True)
class Limits:
    """What a search has to keep.

    Attributes:
        budget: all costs, and the bounds.
        table: the latency table among them; None where latency is no cost.
    """

    budget: Budget
    table: LatencyTable | None


def bounded(
    run: RunFolder,
    supernet: ChainSupernet,
    known: Mapping[str, Cost],
    asked: AskedOneShot,
    *,
    timed: bool,
    measure: MeasureTable | None = None,
    of: Callable[[str, Cost], float] | None = None,
    wanted: bool = False,
) -> Limits:
    """The costs of the space and the bounds on them: profiled, shown, and refused when no network meets them.

    What only needs counting is checked before latency is measured; where nothing bounds it and no table is given, it is not measured.

    Args:
        known: the costs that are counted, by name.
        timed: whether latency can be a cost; there is no table otherwise.
        measure: measures this host; block by block unless told otherwise.
        of: what shares in bounds are shares of, for a cost; quantiles of the space unless told otherwise.
        wanted: latency is a cost even where nothing bounds it.

    Raises:
        UsageError: a malformed bound, or one that nothing satisfies.
    """

    def read(requested: Sequence[RequestedBound], costs: Mapping[str, Cost]) -> tuple[Bound, ...]:
        return parse_bounds(requested, space, costs, of=None if of is None else lambda name: of(name, costs[name]))

    space, bounds = supernet.space, asked.bounds
    if PARAMS in known and any(bound.cost == SIZE for bound in bounds):
        known = {**known, SIZE: size_of(known[PARAMS])}
    if not timed:
        return Limits(_checked(space, Budget(known, read(bounds, known))), None)
    units = {**{name: cost.unit for name, cost in known.items()}, LATENCY: "ms"}
    for bound in bounds:
        bound.check(units)
    counted = Budget(known, read([bound for bound in bounds if bound.cost != LATENCY], known))
    check_reachable(space, counted, profile(space, counted))
    if asked.latency_table is None and not any(bound.cost == LATENCY for bound in bounds) and not wanted:
        say("latency: no bound on it, so it is measured of the winner alone (--budget latency=30% bounds it)")
        return Limits(_checked(space, counted), None)
    table = _latency(run, supernet, asked, measure or _measured)
    say(f"latency of {table.device}: {table.residual or 'from the file, not corrected'}")
    if table.residual is not None and table.residual.mean > UNSURE:
        say("note: the sums of blocks say little about whole networks here, on a busy machine or for cells; finalists are measured whole")
    both: dict[str, Cost] = {**known, LATENCY: table}
    return Limits(_checked(space, Budget(both, read(bounds, both))), table)


def _checked(space: SearchSpace, budget: Budget) -> Budget:
    found = profile(space, budget)
    show_profile(found, space.count())
    say(f"budget: {budget}; {found.acceptance} meet it")
    check_reachable(space, budget, found)
    return budget


def begin(
    run: RunFolder, limits: Limits, space: SearchSpace, asked: AskedOneShot, search: Mapping[str, Any], front: str | None = None
) -> list[optuna.Study]:
    """Everything is checked: join the search, keep arguments and latency table. Gives the studies of the search and of its baseline.

    The studies are in the run folder's journal, or in a storage of the user's.

    Args:
        search: what decides the results of the search, see `evonas.study.join`.
        front: the cost whose front is searched.

    Raises:
        UsageError: the storage cannot be opened, or holds another search under that name; nothing is written then.
    """
    if asked.storage is None:
        run.begin()
        if note := repair_journal(run / JOURNAL):
            say(note)
    costs = [] if front is None else [attribute_name(front, limits.budget.costs[front].unit)]
    studies = studies_of(run.path, asked.storage, asked.study, trusted=asked.trust_storage, costs=costs)
    for study in studies:
        if study.get_trials(deepcopy=False) and RANKED_BY not in study.user_attrs.get(SEARCH, {}):
            raise UsageError(
                f"The study {study.study_name!r} was begun by an earlier version, which ranked networks by another score. "
                f"Use --fresh to start over, or another name: --study NAME."
            )
        join(study, space, {**search, "budget": limits.budget.plain_bounds(), "latency": _digest_of_table(limits.table, space)})
    run.begin()
    introduce(studies, asked.recipe, asked.data, limits.budget, asked.out)
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
                update(done / evaluations, "" if math.isnan(best) else f"best {best:.2f}")

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
        if results[-1].stopped == "none found":
            say(f"{what}: ended after {results[-1].evaluations} networks; no other that meets the budget was found")
    return results[0], results[1]


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


def _latency(run: RunFolder, supernet: ChainSupernet, asked: AskedOneShot, measure: MeasureTable) -> LatencyTable:
    """The run's own table where it has one, else that of the run it goes on from for the same device, the user's file, or this host's.

    This host is measured block by block, and corrected by whole networks. What is measured or learned here is what all workers of a search
    take.
    """
    space, file = supernet.space, asked.latency_table
    if (run / "latency.json").exists() and not run.fresh:
        return read_table(run / "latency.json", space)
    known_run = asked.known_run
    if known_run is not None and (known_run / "latency.json").exists() and read_config(known_run).get("latency_table") == file:
        return read_table(known_run / "latency.json", space)
    if file is not None and Path(file).suffix != ".csv":
        return read_table(Path(file), space)

    def made() -> LatencyTable:
        return measure(supernet, asked.seed) if file is None else _learned(Path(file), supernet)

    if asked.storage is None or asked.dry_run:
        return made()
    study = studies_of(run.path, asked.storage, asked.study, trusted=asked.trust_storage)[0]
    known = patiently(lambda: agreed(study, LATENCY), say)
    if known is None:
        table = made()
        known = patiently(lambda: agree(study, LATENCY, table.plain(space)), say)
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "latency.json", known)
        return read_table(Path(folder) / "latency.json", space)


def _learned(file: Path, supernet: ChainSupernet) -> LatencyTable:
    """Of the device of a CSV file."""
    learned, notes = learned_table(file, supernet.space, supernet.parts(), lambda: _blocks_here(supernet))
    for note in notes:
        say(note)
    return learned


def _blocks_here(supernet: Any) -> LatencyTable:
    """All options, for devices whose networks were measured before the space was narrowed."""
    with bar("measure this host, the only device known") as update:
        return measure_blocks(replace(supernet.space, allowed=()), supernet.parts(), on_progress=update)


def _measured(supernet: Any, seed: int) -> LatencyTable:
    with bar("measure latency") as update:
        table = measure_blocks(supernet.space, supernet.parts(), on_progress=lambda share: update(0.7 * share))
        networks = spread(supernet.space, table, NETWORKS_MEASURED_WHOLE, seed)
        whole = [(supernet.subnet(row), supernet.image_shape) for row in networks]
        measured = runtime.measure_all(whole, on_progress=lambda share: update(0.7 + 0.3 * share))
    return corrected(table, networks, measured)


def _digest_of_table(table: LatencyTable | None, space: SearchSpace) -> str | None:
    return None if table is None else hashlib.sha256(json.dumps(table.plain(space), sort_keys=True).encode()).hexdigest()[:16]
