"""ABS: while a supernet is trained, the options whose weights have turned least are dropped; what is left is searched.

Hu et al., "Angle-based Search Space Shrinking for Neural Architecture Search", 2020, arXiv 2004.13431, around single uniform paths or
strictly fair ones, in any space.

Departures: what shrinks the space trains on, the weights of the supernet are kept and searched (the paper trains a new one in the shrunk
space); one round drops all, for many rounds kept the wrong options; candidates are ranked by the likelihood with inherited weights, fused
with what is counted, and a few finalists are trained a little. How much the angle knows beyond the number of weights: docs/evidence/abs.md.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from evonas import EvolutionExplorer
from evonas.errors import unknown
from predictors import costs
from recipes.runner import options as o
from recipes.runner.asked import AskedOneShot
from recipes.runner.final_training import AVERAGE
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.registry import recipe
from recipes.runner.shrinking import LEFT, shrunk, trained_as
from supernet import FairPaths, UniformPaths, load, pick_device
from supernet.shrinking.rounds import SCORES
from supernet.spaces.registry import supernet_of
from supernet.training.team import first_goes_first, team

SAMPLERS = {"uniform": UniformPaths, "fair": FairPaths}

Score = Annotated[str, typer.Option(help=f"What architectures are worth while the space shrinks: {', '.join(SCORES)}.")]
StopSize = Annotated[float, typer.Option(help="Architectures that are enough; 1 leaves a single one, and no search.", min=1)]
First = Annotated[float, typer.Option(help="Share of the epochs before the space shrinks for the first time.", min=0, max=0.99)]
Every = Annotated[int | None, typer.Option(help="Epochs between two rounds, as in the paper; a single round unless told otherwise.", min=1)]
Sampler = Annotated[str, typer.Option(help="Paths of supernet training: uniform, or fair (then every choice loses as many options).")]


@recipe(
    "abs",
    summary="drops the operators whose weights turn least, then searches",
    paper="Hu et al. 2020, arXiv 2004.13431",
    page=write_report,
    team=True,
)
def abs(
    asked: AskedOneShot,
    space: o.Space = "mbconv",
    score: Score = "angle",
    stop_size: StopSize = LEFT,
    first: First = 0.5,
    every: Every = None,
    sampler: Sampler = "uniform",
    layout: o.Layout = None,
    widths: o.Widths = None,
    depths: o.Depths = None,
    epochs: o.Epochs = 120,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
) -> None:
    """Shrink the space while the supernet is trained, by how far the weights of its operators have turned, and search what is left.

    After half of the training the options that have turned least are dropped, until a million networks are left (or --stop-size);
    --every N drops them by and by, every N epochs. Evolution searches what is left under the budget. The winner is trained on its own and
    written to the run folder: model.pt, model.onnx, result.json, report.html; study.log has what every round dropped (study `epochs`).

    Example: evonas abs --data digits --budget macs=60% --epochs 60 --stop-size 5000 --out runs/abs
    """
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    where = pick_device(asked.device)
    settings: dict[str, Any] = {"layout": layout, "widths": o.numbers(widths), "depths": o.numbers(depths)}
    settings = {name: value for name, value in settings.items() if value}
    shrinking: dict[str, Any] = {"stop_size": stop_size, "first": first, "every": every, "per_choice": sampler == "fair"}
    with team(where):
        with first_goes_first():
            images = load(asked.data, image_size=asked.image_size)
        supernet = supernet_of(space, images.image_shape, len(images.classes), **settings, seed=asked.seed)
        training = o.training_by_size(images.image_shape, batch_size, lr, asked.seed, where)
        job = OneShot(
            supernet=supernet,
            family=space,
            space=settings,
            **shrunk(SAMPLERS[sampler], score, asked.seed, **shrinking),
            explorer=lambda limits: EvolutionExplorer(supernet.space, limits, seed=asked.seed),
            training={**training, "epochs": epochs},
            retraining={**training, "epochs": retrain_epochs or epochs, "average": AVERAGE},
            costs=costs.counted(supernet.space, supernet.parts()),
            trained_as={"family": space, "sampler": sampler, **trained_as(score, **shrinking)},
        )
        one_shot(job, images, asked)
