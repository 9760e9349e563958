"""The network that somebody already has, made to fit a budget.

Its channels are sorted by how much they matter, and it becomes the largest path of a supernet in which narrower and shallower networks
are its leading parts. The budget is searched with recalibrated statistics alone, or after paths near it have learned from the labels and
from the given network for a few epochs, which gained nothing where it was compared (docs/evidence/shrink.md); the best few are
fine-tuned with the given network as their teacher: pruning as a search, with bounds on what is measured.

A search among the parts of one network whose channels share weights is that of Yu and Huang, "AutoSlim", 2019, arXiv 1903.11728, which
walks down greedily from the largest. Here any explorer searches, blocks and kernels may go as well as channels, what a greedy walk by
importance would keep is tried first, and short trainings decide between the best.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn

from evonas import EXPLORERS, Budget, CoordinateDescentExplorer, EvolutionExplorer, Explorer, ScreenedExplorer
from evonas.budget import Cost
from evonas.errors import UsageError, unknown
from evonas.space import Architecture, Population
from evonas.units import format_quantity
from predictors.costs import count_macs
from predictors.devices import runtime
from predictors.devices.table import LatencyTable, Residual, corrected, spread
from predictors.screens import screen
from recipes.runner import options as o
from recipes.runner.final_training import AVERAGE
from recipes.runner.forecast import training_seconds
from recipes.runner.front import AskedFront
from recipes.runner.one_shot import OneShot, Preparation, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.progress import bar, say
from recipes.runner.registry import recipe
from recipes.runner.run_folder import RunFolder
from recipes.runner.training import train_into
from supernet import ImageData, StandAlone, accuracy, load, pick_device
from supernet.archive import digest_of
from supernet.given import GivenSupernet, importance, sizes, source
from supernet.given.greedy import by_importance, even
from supernet.training.taught import TaughtPaths

ADAPTED = "original.pt"  # the given network, trained on the images
EVOLUTION, DESCENT = "evolution", "coordinate-descent"
DESCENT_EPOCHS = 4  # what a walk through many sizes compares has to be trained
STEPS, FIRST_STEP = 12, 0.1  # of a descent: a third of the evaluations are left when it has come down to half
IMPORTANT_IMAGES, IMPORTANT_BATCH = 1024, 64  # training images that say which channels matter
READING = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # what reading the weights takes, in shares of what the layers take by themselves
BEYOND_CHANCE = 2.0  # times what guessing names: a network that names less is taken to be untrained
NEAR = 0.6  # of a bound: the cheapest networks that are trained
RANDOM_MEASURED = 10  # networks, beside those of one width everywhere

Model = Annotated[
    str,
    typer.Option(
        help="The network: torchvision:NAME, timm:NAME (needs the extra timm), or FILE.py:FUNCTION, a function of yours that returns a "
        "torch.nn.Module. The file is run."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(help="Its weights: a file with its state dict, or pretrained (downloaded by torchvision or timm)."),
]
Importance = Annotated[
    str, typer.Option("--importance", help="What says which channels matter: loss (of training images), scales (batch norm) or weights.")
]
NarrowEpochs = Annotated[
    int | None,
    typer.Option(
        help="Epochs in which narrower networks learn from the given one before they are searched. None, unless told otherwise: it "
        "gained nothing where it was compared; 4 with --explorer coordinate-descent.",
        min=0,
    ),
]
FineTuneEpochs = Annotated[
    int, typer.Option(help="Epochs of the winner's fine-tuning, and of the given network's where it is not trained on this data.", min=1)
]


@dataclass(frozen=True, kw_only=True)
class AskedShrink(AskedFront):
    """What a run of `shrink` was asked for: shares in bounds are of the given network, and all weights are inherited."""

    budget: Annotated[
        list[str],
        typer.Option(
            "--budget",
            help="A bound, NAME=UPPER, any number of times. Names: macs (multiply-accumulates), params, size, latency. Numbers take units: "
            "macs=30M, latency=8ms. A share is of the given network: latency=60%, measured on this host.",
        ),
    ] = field(default_factory=list)
    evaluations: o.Evaluations = 300  # candidates share nothing that would make scoring many of them cheap
    inherit: bool = field(default=True, init=False)


@recipe(
    "shrink",
    summary="make the network you have fit a budget",
    paper="Yu & Huang 2019, arXiv 1903.11728",
    page=write_report,
    outputs=(ADAPTED,),
)
def shrink(
    asked: AskedShrink,
    model: Model,
    weights: Weights = None,
    importance_by: Importance = "loss",
    epochs: NarrowEpochs = None,
    fine_tune_epochs: FineTuneEpochs = 30,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRate = 0.02,
    explorer: o.ExplorerName = EVOLUTION,
    predictor: o.Predictor = "boosted-trees",
) -> None:
    """Make the network you have fit a budget: fewer channels, fewer blocks, smaller kernels, your weights.

    The network becomes the largest path of a supernet; a search finds the best of its narrower paths under the budget
    (with --epochs they learn from it first); the winner is fine-tuned with the given network as its teacher, and written
    to the run folder: model.pt, model.onnx, app.onnx, result.json (channels by layer), report.html.

    --front latency shows what every budget would buy, and delivers five networks.

    --explorer coordinate-descent walks down from the given network to the budget (NetAdapt), whose paths are then all trained.

    From Python the model may be a network in hand: evonas.find("photos", "latency=60%", recipe="shrink", model=network)

    Example: evonas shrink --model torchvision:mobilenet_v2 --weights mine.pt --data photos --budget latency=60% --out runs/small
    """
    if importance_by not in importance.WAYS:
        raise unknown("importance", importance_by, importance.WAYS)
    if asked.front is not None and isinstance(model, nn.Module):
        raise UsageError("Every point of a front is a run of its own, which cannot have a network in hand; expected FILE.py:FUNCTION.")
    where = pick_device(asked.device)
    images = load(asked.data, image_size=asked.image_size)
    given = source.read(model, weights, images.image_shape, len(images.classes), seed=asked.seed)
    supernet = GivenSupernet(given.network, images.image_shape)
    for line in (*given.said, in_words(supernet)):
        say(f"{given.name}: {line}" if line in given.said else line)
    costs: dict[str, Cost] = {
        "macs": sizes.macs(supernet, count_macs(given.network, images.image_shape)),
        "params": sizes.params(supernet),
    }
    whole = supernet.space.population([supernet.largest])
    untrained = not given.trained or accuracy(given.network.to(where), images.search, where) < BEYOND_CHANCE / len(images.classes)
    matters: list[Any] = []  # importance of channels, once the weights of the given network are known

    training: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "seed": asked.seed, "device": where}
    training["weight_decay"] = o.weight_decay_by_size(images.image_shape)
    tuning = {**training, "epochs": fine_tune_epochs, "average": AVERAGE}
    screening = screen(predictor, supernet) if explorer == EVOLUTION else None

    def proposer(limits: Budget) -> Explorer:
        if explorer == DESCENT:
            samples = max(asked.evaluations // STEPS, 2)
            return CoordinateDescentExplorer(supernet.space, limits, seed=asked.seed, generation_size=samples, first_step=FIRST_STEP)
        if explorer != EVOLUTION:
            return EXPLORERS.pick(explorer).make(supernet.space, limits, asked.seed)
        evolution = EvolutionExplorer(supernet.space, limits, seed=asked.seed)
        return evolution if screening is None else ScreenedExplorer(evolution, screening)

    def prepare(run: RunFolder) -> None:
        if untrained:
            name = given.name
            if asked.known_run is not None and (asked.known_run / ADAPTED).exists() and not (run / ADAPTED).exists():
                shutil.copy(asked.known_run / ADAPTED, run / ADAPTED)
            train_into(run / ADAPTED, "adapt given network", given.network, StandAlone(), images.train, identity=name, **tuning)
        given.network.to(where)
        say(f"the given network: {100 * accuracy(given.network, images.search, where):.1f} % of the search images")
        matters.extend(inherit(supernet, given.network, importance_by, images, where))

    settings = {"model": given.name, "weights": digest_of(given.network.state_dict()), "importance": importance_by}
    job = OneShot(
        supernet=supernet,
        family="given",
        space=settings,
        way=TaughtPaths(given.network),
        way_within=lambda limits: TaughtPaths(given.network, budget=None if explorer == DESCENT else near(limits, whole)),
        by_hand=lambda limits: np.concatenate([by_importance(supernet, matters, limits), even(supernet, limits)[:1]]),
        explorer=proposer,
        training={**training, "epochs": epochs if epochs is not None else DESCENT_EPOCHS if explorer == DESCENT else 0},
        retraining=tuning,
        costs=costs,
        screening=screening,
        teacher=given.network,
        preparation=Preparation(
            "adapt given network",
            prepare,
            lambda: training_seconds(given.network, StandAlone(), images.train, **tuning) if untrained else 0.0,
        ),
        measure=measured,
        shares_of=lambda name, cost: float(cost(whole)[0]),
        alone=True,
        about=lambda row: about(supernet, row, given, costs, images, where),
    )
    one_shot(job, images, asked)


def near(limits: Budget, whole: Population) -> Budget | None:
    """The budget, and for the cost that it bounds most tightly no less than a share of the bound: what is far below will not be chosen."""
    upper = [bound for bound in limits.bounds if bound.upper < np.inf]
    if not upper:
        return None
    tightest = min(upper, key=lambda bound: bound.upper / float(limits.costs[bound.cost](whole)[0]))
    lower = max(tightest.lower, NEAR * tightest.upper)
    return Budget(limits.costs, [replace(bound, lower=lower) if bound is tightest else bound for bound in limits.bounds])


def inherit(supernet: GivenSupernet, network: nn.Module, by: str, images: ImageData, device: torch.device) -> importance.Importance:
    """The weights of the given network, its channels in the order of their importance, which is returned."""
    body = supernet.body.to(device)
    body.load_state_dict(network.state_dict())
    batches = images.train.head(min(IMPORTANT_IMAGES, len(images.train))).batches(IMPORTANT_BATCH, device)
    found = importance.WAYS[by](body, supernet.anatomy, *([batches] if by == "loss" else []))
    importance.sort(body, supernet.anatomy, found)
    return found


def measured(supernet: GivenSupernet, seed: int) -> LatencyTable:
    """The latency of every path on this host, from layers alone and corrected by whole networks.

    The given network counts as often as all others together: shares of its latency are asked for.
    """
    space = supernet.space
    with bar("measure latency") as update:
        layers = sizes.measured(supernet, runtime.measure, lambda share: update(0.7 * share))
        weights = sizes.params(supernet)
        table = LatencyTable("this host, ONNX Runtime, one thread", layers)
        largest = space.population([supernet.largest])
        rows = np.concatenate([largest, even(supernet, Budget()), spread(space, table, RANDOM_MEASURED, seed)])
        rows = rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
        networks = [(supernet.subnet(row), supernet.image_shape) for row in rows]
        found = runtime.measure_all(networks, on_progress=lambda share: update(0.7 + 0.3 * share))
    largest_layers, largest_weights = float(layers(largest)[0]), float(weights(largest)[0])
    times = [share * largest_layers / largest_weights for share in READING]
    given = int(np.flatnonzero((rows == largest).all(axis=1))[0])
    counted = np.array([*range(len(rows)), *[given] * len(rows)])
    y, fits = np.array(found), list[tuple[float, LatencyTable]]()
    for each in times:
        fitted = corrected(replace(table, blocks=sizes.plus(layers, weights, each)), rows[counted], y[counted])
        errors = np.abs(fitted(rows) / y - 1)
        residual = Residual(len(rows), float(errors.mean()), float(errors.max()))
        fits.append((residual.mean, replace(fitted, residual=residual)))
    return min(fits, key=lambda fit: fit[0])[1]


def in_words(supernet: GivenSupernet) -> str:
    """What can be chosen, for people."""
    anatomy = supernet.anatomy
    found = f"{len(anatomy.groups)} widths, {len(anatomy.optional)} blocks and {len(anatomy.kernels)} kernels can be chosen"
    if anatomy.whole:
        some = ", ".join(anatomy.whole[:4]) + (f" and {len(anatomy.whole) - 4} more" if len(anatomy.whole) > 4 else "")
        found += f"; kept whole: {some}"
    return found


def about(
    supernet: GivenSupernet, row: Architecture, given: source.Given, costs: dict[str, Cost], images: ImageData, device: torch.device
) -> dict[str, Any]:
    """The given network beside the winner, and the channels of every layer of both."""
    whole = supernet.space.population([supernet.largest])
    before, after = (sizes.widths(supernet, np.array(r)) for r in (supernet.largest, row))
    kernels = dict(zip(supernet.space.names, supernet.space.to_names(row).values(), strict=True))
    layers = [{"layer": name, "given": list(before[name]), "kept": list(after[name])} | _kernel(kernels, name) for name in before]
    original = {name: float(cost(whole)[0]) for name, cost in costs.items()}
    original["latency"] = runtime.measure(given.network.cpu(), images.image_shape)
    tested = accuracy(given.network.to(device), images.test, device)
    told = ", ".join(f"{name} {format_quantity(value, 'ms' if name == 'latency' else '')}" for name, value in original.items())
    say(f"the given network: test accuracy {100 * tested:.2f} %, {told}")
    return {"given": {"model": given.name, "costs": original, "test": tested}, "layers": layers}


def _kernel(options: dict[str, str], layer: str) -> dict[str, int]:
    return {"kernel": int(options[f"{layer}.kernel"])} if f"{layer}.kernel" in options else {}
