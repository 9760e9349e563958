"""PNAS: cells that grow block by block, every one of them trained a little; a predictor chooses which of the larger ones to train next.

Liu et al., "Progressive Neural Architecture Search", 2017, arXiv 1712.00559. The search is a study: every trained network is a trial with
its level, so that a killed run goes on with the next network, and the dashboard shows what the beam does. Nothing is shared between
networks: no supernet, no inherited weights.

Departures: bounds are on the network that is delivered (more and wider cells than those that the search trains); the best trained cell of
any size that keeps them wins, not only one of the largest; no auxiliary head and no drop-path in its full training. Beside the search, as
many random cells of the largest size as the beam has are trained, which is what the last level has to beat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Annotated, Any

import numpy as np
import typer

from evonas import Budget, ProgressiveExplorer, RandomExplorer, check_reachable, open_study, parse_bounds, profile, search
from evonas.cells import OPERATIONS, CellGrowth, cell_sizes
from evonas.errors import UsageError, unknown
from evonas.files import write_json
from evonas.space import Population, SearchSpace
from evonas.storage import repair_journal
from evonas.study import History
from evonas.units import format_quantity
from predictors import Ensemble, costs
from predictors.accuracy.neural import CellLSTM, CellMLP
from predictors.devices import runtime
from recipes.runner import options as o
from recipes.runner.asked import AskedUnderBudget
from recipes.runner.delivery import about, deliver, versions
from recipes.runner.final_training import AVERAGE
from recipes.runner.forecast import alone_seconds, foretell, start
from recipes.runner.pages.pnas import levels_of, write_pnas_report
from recipes.runner.progress import bar, best_so_far, say, show_images, show_profile
from recipes.runner.registry import recipe
from recipes.runner.run_folder import JOURNAL, RunFolder
from recipes.runner.training import train_into
from supernet import StandAlone, TrainedFitness, accuracy, load, pick_device, pnas_cells
from supernet.spaces.layout import preset_for
from supernet.spaces.pnas import Count, PnasFamily


@dataclass(frozen=True)
class Preset:
    """What is searched and trained, for images of a size.

    Attributes:
        blocks, beam, operators: B and K of the paper, and the operators of half a block.
        repeats, filters, epochs: of the networks that the search trains (N and F of the paper).
        final_repeats, final_filters, final_epochs: of the network that is delivered.
    """

    blocks: int
    beam: int
    operators: tuple[str, ...]
    repeats: int
    filters: int
    epochs: int
    final_repeats: int
    final_filters: int
    final_epochs: int


SIZES = {"small": 24, "cifar": inf}  # largest images, in pixels
PRESETS: dict[str, Preset] = {
    # ours, for an evening on a CPU: 68 trainings of seconds
    "small": Preset(3, 16, ("sep_conv_3x3", "sep_conv_5x5", "identity", "max_pool_3x3"), 1, 8, 2, 2, 16, 30),
    "cifar": Preset(5, 256, OPERATIONS, 2, 24, 20, 3, 48, 600),  # the paper's
}
PREDICTORS = {"mlp": CellMLP, "lstm": CellLSTM}

PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="small (68 trainings of seconds) or cifar (the paper's 1,160 of 20 epochs). By the image size unless told otherwise; "
        "the options below replace single numbers.",
    ),
]
Blocks = Annotated[int | None, typer.Option(help="Most blocks of a cell (B).", min=1)]
Beam = Annotated[int | None, typer.Option(help="Cells trained at every level after the first (K).", min=2)]
Operators = Annotated[str | None, typer.Option(help=f"Operators of half a block, with commas between, out of: {', '.join(OPERATIONS)}.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs of every network of the search.", min=1)]
Filters = Annotated[int | None, typer.Option(help="Channels of the first cells of a network of the search (F).", min=2)]
Repeats = Annotated[int | None, typer.Option(help="A third of the cells of a network of the search (N).", min=1)]
FinalEpochs = Annotated[int | None, typer.Option("--retrain-epochs", help="Epochs of the winner's training.", min=1)]
FinalFilters = Annotated[int | None, typer.Option(help="Channels of the first cells of the network that is delivered.", min=2)]
FinalRepeats = Annotated[int | None, typer.Option(help="A third of the cells of the network that is delivered.", min=1)]
PredictorName = Annotated[str, typer.Option(help="What foretells larger cells, five of them: mlp or lstm.")]
Bounds = Annotated[
    list[str],
    typer.Option(
        "--budget",
        help="A bound on the network that is delivered, NAME=UPPER or NAME=LOWER..UPPER, any number of times. Names: macs, params. "
        "macs=30M, params=40%. (Latency is measured once it is trained, and is no bound here.)",
    ),
]


@dataclass(frozen=True, kw_only=True)
class AskedPnas(AskedUnderBudget):
    """With a budget that is counted."""

    budget: Bounds = field(default_factory=list)


@recipe(
    "pnas",
    summary="cells grown block by block, each trained a little",
    paper="Liu et al. 2017, arXiv 1712.00559",
    page=write_pnas_report,
    outputs=("levels.png",),
)
def pnas(
    asked: AskedPnas,
    preset: PresetName = None,
    blocks: Blocks = None,
    beam: Beam = None,
    operators: Operators = None,
    epochs: Epochs = None,
    filters: Filters = None,
    repeats: Repeats = None,
    retrain_epochs: FinalEpochs = None,
    final_filters: FinalFilters = None,
    final_repeats: FinalRepeats = None,
    predictor: PredictorName = "mlp",
    batch_size: o.BatchSize = 64,
    lr: o.LearningRate = 0.1,
) -> None:
    """Grow cells block by block as PNAS does: train all of one block, then the best that a predictor sees among the larger ones.

    Every network is trained on its own for a few epochs and is a trial of the study `search`. The best cell that keeps the budget is
    stacked deeper and wider, trained in full, tested once and written to the run folder: model.pt, model.onnx, result.json, report.html.

    Example: evonas pnas --data digits --budget params=200k --out runs/pnas
    """
    if predictor not in PREDICTORS:
        raise unknown("predictor", predictor, PREDICTORS)
    where = pick_device(asked.device)
    images = load(asked.data, image_size=asked.image_size)
    show_images(images)
    if preset is not None and preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    p = PRESETS[preset or preset_for(min(images.image_shape[1:]), SIZES)]
    cells: dict[str, Any] = {"blocks": blocks or p.blocks, "operators": operators.split(",") if operators else list(p.operators)}
    final = {**cells, "repeats": final_repeats or p.final_repeats, "filters": final_filters or p.final_filters}
    small = pnas_cells(images.image_shape, len(images.classes), **cells, repeats=repeats or p.repeats, filters=filters or p.filters)
    large = pnas_cells(images.image_shape, len(images.classes), **final)
    counted = {name: CellCost(large, count) for name, count in (("macs", costs.count_macs), ("params", costs.count_params))}
    training: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "weight_decay": 5e-4, "seed": asked.seed, "device": where}

    with RunFolder(asked.out, asked.arguments, fresh=asked.fresh) as run:
        limits = Budget(counted, parse_bounds(asked.bounds, small.space, counted))
        found = profile(small.space, limits)
        show_profile(found, small.space.count())
        check_reachable(small.space, limits, found)
        ensemble = Ensemble(PREDICTORS[predictor](small.space), random_state=asked.seed)
        explorer = ProgressiveExplorer(
            small.space, limits, predictor=ensemble, growth=CellGrowth(small.space), beam=beam or p.beam, seed=asked.seed
        )
        searching = {**training, "epochs": epochs or p.epochs}
        settled = {**training, "epochs": retrain_epochs or p.final_epochs, "average": AVERAGE}
        some = largest_only(small.space).sample(2, np.random.default_rng(asked.seed))
        movements: dict[str, Callable[[], float]] = {
            "train cells": lambda: explorer.schedule()[-1] * alone_seconds(small, some, images, **searching),
            "train random cells": lambda: explorer.beam * alone_seconds(small, some, images, **searching),
            "train winner": lambda: alone_seconds(large, some[:1], images, **settled),
        }
        foretold = foretell(run, movements, dry=asked.dry_run)
        if asked.dry_run:
            return
        run.begin()
        start(run, foretold)
        if note := repair_journal(run / JOURNAL):
            say(note)
        fitness = TrainedFitness(small, images, **searching)
        grown = _trained(run, "search", "train cells", explorer, fitness, explorer.schedule()[-1])
        control = RandomExplorer(largest_only(small.space), limits, seed=asked.seed)
        random = _trained(run, "baseline", "train random cells", control, fitness, explorer.beam)
        winner = _winner(run, small.space, grown, limits)

        architecture = large.space.from_names(winner["architecture"])
        network = large.network(architecture, seed=asked.seed)
        train_into(run / "retrain.pt", "train winner", network, StandAlone(), images.train, identity=list(architecture), **settled)
        scores = {"search": winner["score"], "test": accuracy(network, images.test, where)}
        difference = deliver(network, images, winner["architecture"], final, run.path, family="pnas", tested=scores["test"])
        measured = runtime.measure(network, images.image_shape)
        result = {
            "recipe": "pnas",
            "architecture": winner["architecture"],
            "budget": [str(bound) for bound in limits.bounds],
            "bounds": limits.plain_bounds(),
            "costs": winner["costs"],
            "units": limits.units,
            "accuracy": scores,
            "measured_ms": measured,
            "levels": levels_of(grown, random),
            "baseline": {"explorer": "random", "evaluations": len(random.scored), "score": _best(random)},
            "onnx_difference": difference,
            **about(network, images, winner["architecture"], timed=False),
            "seed": asked.seed,
            "versions": versions(),
        }
        write_json(run / "result.json", result)
        write_pnas_report(run.path)
        spent = ", ".join(f"{name} {format_quantity(value, limits.costs[name].unit)}" for name, value in winner["costs"].items())
        found_in_words = f"test accuracy {100 * scores['test']:.2f} %, {spent}, {measured:.3g} ms measured (budget: {limits})"
        say(f"delivered to {asked.out}: {found_in_words}; all about it: {run / 'report.html'}")


@dataclass(frozen=True)
class CellCost:
    """A counted cost of the networks that a family makes of cells."""

    family: PnasFamily
    count: Count
    unit: str = ""

    @cached_property
    def tables(self) -> Any:
        """Counted once: it builds every operator in every place."""
        return self.family.tables(self.count)

    def __call__(self, population: Population) -> np.ndarray:
        return self.family.totals(population, self.tables)


def largest_only(space: SearchSpace) -> SearchSpace:
    """The part of a cell space that has the most blocks."""
    return space.narrow({"blocks": [space.choices[0].options[-1]]})


def _trained(run: RunFolder, study: str, what: str, explorer: Any, fitness: TrainedFitness, evaluations: int) -> History:
    """Networks trained on their own, each the trial of a study."""
    with bar(what) as update:
        return search(
            explorer.space,
            fitness,
            explorer,
            evaluations=evaluations,
            study=open_study(run / JOURNAL, study),
            budget=explorer.budget,
            batch=1,
            on_progress=lambda done, best: update(done / evaluations, f"{done} of {evaluations} {best_so_far(best)}"),
            on_note=say,
        ).history


def _winner(run: RunFolder, space: SearchSpace, history: History, limits: Budget) -> dict[str, Any]:
    """The best trained cell, with the costs of the network that is delivered, into `winner.json`."""
    if not len(history.scored):
        raise UsageError("No network of the search could be trained; lower the learning rate.")
    best = int(history.scored[0])
    row = history.population[best]
    values = {name: float(value[0]) for name, value in limits.values(row[None]).items()}
    size, score = int(cell_sizes(row[None])[0]), float(history.scores[best])
    winner = {"architecture": space.to_names(row), "score": score, "costs": values}
    write_json(run / "winner.json", winner)
    say(f"winner: {size} block{'s' if size > 1 else ''}, {100 * score:.1f} % after the epochs of the search")
    return winner


def _best(history: History) -> float | None:
    return float(history.scores[history.scored[0]]) if len(history.scored) else None
