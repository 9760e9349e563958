"""The one-shot movements in their order: train a supernet, search it under a budget, retrain the winner, deliver it.

What a recipe chooses (the space, how the supernet is trained, what proposes candidates, the schedule) is a `OneShot`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evonas import Budget, Explorer
from evonas.budget import Cost
from evonas.explorers.screened import Predictor
from recipes.runner import movements
from recipes.runner.delivery import deliver, write_result
from recipes.runner.pages.one_shot import write_report
from recipes.runner.progress import say
from recipes.runner.run_folder import RunFolder
from supernet import ImageData, InheritedFitness, accuracy, train
from supernet.chain import ChainSupernet
from supernet.training.loop import Way
from supernet.training.team import rank


@dataclass(frozen=True)
class OneShot:
    """What a one-shot recipe is made of.

    Attributes:
        recipe: its name.
        supernet: untrained.
        family: name of its space among `recipes.runner.delivery.FAMILIES`.
        space: arguments that the space was made with.
        way: how the supernet is trained.
        explorer: proposes candidates under a budget.
        training, retraining: settings of `supernet.training.loop.train` for the supernet and for the winner.
        costs: those that are counted, by name; latency is added where it is `timed`.
        timed: whether running a network here says how fast it is.
        calibration_images: training images that batch-norm statistics of a candidate are taken from.
        screening: the predictor inside of the explorer, for the report.
        reestimate: take the batch-norm statistics of the retrained winner anew, over all training images.
        trained_as: plain data, beside data and space, that a trained supernet must agree on to be searched.
    """

    recipe: str
    supernet: ChainSupernet
    family: str
    space: dict[str, Any]
    way: Way
    explorer: Callable[[Budget], Explorer]
    training: dict[str, Any]
    retraining: dict[str, Any]
    costs: Mapping[str, Cost]
    timed: bool = True
    calibration_images: int = 512
    screening: Predictor | None = None
    reestimate: bool = False
    trained_as: Mapping[str, Any] | None = None


def one_shot(job: OneShot, images: ImageData, arguments: dict[str, Any], *, out: str, fresh: bool) -> None:
    """Run the movements into the run folder `out`, each unless its output is there; under `torchrun`, on all processes.

    Args:
        job: what the recipe chose.
        images: to train, search and test on.
        arguments: of the recipe, which another start of the run must agree with; data, budget, evaluations, seed, latency_table,
            storage, from_run and inherit (see `recipes.runner.options`) are among them.
        out, fresh: see `recipes.runner.options`.
    """
    supernet, where = job.supernet, job.training["device"]
    seed, inherit, from_run = arguments["seed"], arguments["inherit"], arguments["from_run"]
    latency_table, storage = arguments["latency_table"], arguments["storage"]
    identity = {"data": arguments["data"], "image_shape": list(images.image_shape), "classes": list(images.classes), **job.space}
    identity = {**(job.trained_as or {}), **identity}
    if rank() > 0:
        if from_run is None:
            train(supernet, job.way, images.train, **job.training)
        movements.help_retrain(supernet, images, inherit=inherit, **job.retraining)
        return

    with RunFolder(out, arguments, fresh=fresh) as run:
        limits, table = movements.bounded(run, supernet, job.costs, arguments["budget"], latency_table, seed, timed=job.timed)
        studies = movements.begin(run, table, supernet.space, storage)

        movements.train_supernet(run, supernet, job.way, images, identity, from_run, **job.training)

        calibration = images.train.head(job.calibration_images)
        fitness = InheritedFitness(supernet, images.search.head(len(images.search)), calibration, device=where)
        worker = f"{platform.node()}:{Path(out).resolve()}" if storage else "0"
        found, control = movements.search_beside_random(job.explorer(limits), fitness, studies, arguments["evaluations"], worker)

        winner = movements.choose(run, supernet, limits, found, images, measured=job.timed and latency_table is None)
        architecture = supernet.space.from_names(winner["architecture"])
        network = movements.retrain(run, supernet, architecture, images, inherit=inherit, **job.retraining)
        if job.reestimate:
            movements.reestimate(network, images, where)
        tested = accuracy(network, images.test, where)

        difference = deliver(network, images, winner["architecture"], job.space, run.path, family=job.family)
        result = write_result(run.path, job.recipe, winner, limits, table, tested, control, difference, seed)
        write_report(run.path, job.screening)
        say(f"delivered to {out}: {result}")
