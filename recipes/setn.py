"""SETN: a template of uniform paths, an evaluator that learns beside it, and only candidates that the evaluator holds likely.

Dong and Yang, "One-Shot Neural Architecture Search via Self-Evaluated Template Network", 2019, arXiv 1910.05733, on the cells of
NAS-Bench-201 (the released search) or on those of DARTS with the operators of the published cell (that search was never released).

Departures: candidates that the evaluator draws are ranked by the likelihood, fused with what is counted, and the best of them trained a
little, as every search here does (the code takes the highest accuracy on one batch, another one for each candidate); the evaluator
learns from a fifth of the training images, not from half, and only in the last quarter of the epochs, so that training takes half the
time; the template's learning rate stays high, where cells were ranked best (docs/evidence/setn.md); trials of the study `epochs` say
what the evaluator recommended after every epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from evonas import DistributionExplorer
from evonas.errors import unknown
from evonas.explorers.distribution import MODES
from predictors import costs
from recipes.runner import cells as c
from recipes.runner import options as o
from recipes.runner.asked import AskedOneShot
from recipes.runner.final_training import AVERAGE
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.registry import recipe
from supernet import SelfEvaluated, load, pick_device
from supernet.cell_operators import POOLS
from supernet.spaces.registry import supernet_of
from supernet.training.team import first_goes_first, team

HELD_OUT, EVALUATOR_LR, WARMUP = 0.2, 0.01, 0.75
FINAL_RATE = 0.4  # the share of its peak at which the template's learning rate ends

Mode = Annotated[str, typer.Option(help="How candidates come from the evaluator: sample, or most-probable for the most probable in order.")]
Candidates = Annotated[int, typer.Option("--evaluations", help="Candidates that are scored (T), and random ones beside them.", min=1)]
EvaluatorLR = Annotated[
    float, typer.Option("--evaluator-lr", help="Learning rate of the evaluator; the paper's 250 epochs have 0.0003.", min=0)
]


@dataclass(frozen=True, kw_only=True)
class AskedSetn(AskedOneShot):
    """With fewer candidates."""

    evaluations: Candidates = 100


@recipe(
    "setn",
    summary="cells that an evaluator beside the supernet holds likely",
    paper="Dong & Yang 2019, arXiv 1910.05733",
    page=write_report,
    team=True,
)
def setn(
    asked: AskedSetn,
    space: c.Space = "nasbench201",
    channels: c.Channels = None,
    cells: c.CellsOption = None,
    mode: Mode = "sample",
    epochs: o.Epochs = 60,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
    evaluator_lr: EvaluatorLR = EVALUATOR_LR,
) -> None:
    """Search cells with a self-evaluated template: uniform paths are trained, and an evaluator learns which cells are worth scoring.

    In the last quarter of the epochs the evaluator learns after every step, from images that the template does not see, through all
    operators at once; then it proposes the candidates that are scored with inherited weights. The winner is trained on its own and
    written to the run folder: model.pt, model.onnx, result.json, report.html; study.log has what the evaluator recommended after
    every epoch.

    Example: evonas setn --data digits --budget macs=60% --epochs 30 --out runs/setn
    """
    c.known(space)
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    where = pick_device(asked.device)
    with team(where):
        with first_goes_first():
            images = load(asked.data, image_size=asked.image_size)
        settings = c.settings(space, channels, cells, images.image_shape, {"operators": list(POOLS["setn"])})
        supernet = supernet_of(space, images.image_shape, len(images.classes), **settings, seed=asked.seed)
        way = SelfEvaluated(supernet.space, held_out=HELD_OUT, evaluator_lr=evaluator_lr, warmup=WARMUP, seed=asked.seed)
        training = c.training(batch_size, lr, images.image_shape, asked.seed, where)
        job = OneShot(
            supernet=supernet,
            family=space,
            space=settings,
            way=way,
            explorer=lambda limits: DistributionExplorer(
                supernet.space, limits, distribution=way.evaluator.distribution(supernet.space), mode=mode, seed=asked.seed
            ),
            training={**training, "epochs": epochs, "final_lr": FINAL_RATE * training["lr"]},
            retraining={**training, "epochs": retrain_epochs or epochs, "average": AVERAGE},
            costs=costs.counted(supernet.space, supernet.parts()),
            trained_as={"family": space, "evaluator_lr": evaluator_lr},
        )
        one_shot(job, images, asked)
