"""NEAS: an ensemble as one network, whose members share their first layers; where they split is searched like everything else.

Chen, Fu and Ling, "One-Shot Neural Ensemble Architecture Search", 2021, arXiv 2104.00597 (only final models were released). A supernet
is trained by random ensembles, evolution searches it under one bound for all members together, and the winner is trained and delivered as
one network with one output.

Departures: candidates are ranked by the likelihood of the mean logits, fused with what is counted, and the best few train a little before
one of them is chosen. What the paper's shrinking measures was never released: with `--shrink diversity+likelihood` the space loses, after
half of the training, the operators that are neither good nor different from their siblings, at least two a layer stay; what that is worth:
docs/evidence/neas.md.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from evonas import EvolutionExplorer
from predictors import costs
from recipes.runner import options as o
from recipes.runner.asked import AskedOneShot
from recipes.runner.final_training import AVERAGE
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.registry import recipe
from recipes.runner.shrinking import NONE, Shrink, shrunk, trained_as
from supernet import load, pick_device
from supernet.ensemble_variation import crossover, mutation
from supernet.spaces.ensemble import SPLIT, ensemble
from supernet.training.ensemble import EnsembleAlone, EnsemblePaths

Members = Annotated[int, typer.Option(help="Members of the ensemble.", min=2)]
Splits = Annotated[
    str | None, typer.Option(help="Numbers of layers that members may share, for example 4,6,8; any number unless told otherwise.")
]


@recipe("neas", summary="an ensemble whose members share layers", paper="Chen et al. 2021, arXiv 2104.00597", page=write_report)
def neas(
    asked: AskedOneShot,
    members: Members = 2,
    splits: Splits = None,
    shrink: Shrink = NONE,
    layout: o.Layout = None,
    widths: o.Widths = None,
    depths: o.Depths = None,
    epochs: o.Epochs = 120,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
) -> None:
    """Search an ensemble under a budget for all of it: what members share, where they part, and what each of them runs then.

    Shared layers cost once. The winner is trained as one network, every member by the labels, and written to the run folder as one
    network whose output is the mean of the members': model.pt, model.onnx, result.json, report.html.

    Example: evonas neas --data digits --budget macs=800k --epochs 60 --out runs/neas
    """
    where = pick_device(asked.device)
    settings: dict[str, Any] = {
        "members": members,
        "splits": o.numbers(splits),
        "layout": layout,
        "widths": o.numbers(widths),
        "depths": o.numbers(depths),
    }
    shrinking: dict[str, Any] = {"stop_size": 1, "per_choice": True, "least": 2, "whole": [SPLIT]}
    settings = {name: value for name, value in settings.items() if value}
    images = load(asked.data, image_size=asked.image_size)
    supernet = ensemble(images.image_shape, len(images.classes), **settings, seed=asked.seed)
    training = o.training_by_size(images.image_shape, batch_size, lr, asked.seed, where)
    job = OneShot(
        supernet=supernet,
        family="ensemble",
        space=settings,
        **shrunk(EnsemblePaths, shrink, asked.seed, **shrinking),
        retrain_way=EnsembleAlone(),
        explorer=lambda limits: EvolutionExplorer(
            supernet.space, limits, seed=asked.seed, mutate=mutation(supernet), mate=crossover(supernet)
        ),
        training={**training, "epochs": epochs},
        retraining={**training, "epochs": retrain_epochs or epochs, "average": AVERAGE},
        costs=costs.counted(supernet.space, supernet.parts()),
        trained_as={"family": "ensemble", **trained_as(shrink, **shrinking)},
    )
    one_shot(job, images, asked)
