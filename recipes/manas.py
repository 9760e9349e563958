"""MANAS: agents, one for every edge of every cell, choose what is trained and learn from what it is worth.

Carlucci et al., "MANAS: Multi-Agent Neural Architecture Search", 2019, arXiv 1909.01051. Only the path that the agents draw is in memory,
so that each cell may differ from all others and the search has as many cells as what is delivered.

Departures: architectures that the agents draw in the end are ranked by the likelihood, fused with what is counted, and the best of them
trained a little, as every search here does (the paper keeps the best of four searches by validation accuracy); all edges of a cell stay,
"none" among their operators; the agents learn from a fifth of the training images, not from half. Beside the winner stand eight random
networks of the same budget, trained as it is: the paper's own baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from evonas import AGENTS, DistributionExplorer
from evonas.errors import unknown
from predictors import costs
from recipes.runner import cells as c
from recipes.runner import options as o
from recipes.runner.asked import AskedOneShot
from recipes.runner.final_training import AVERAGE
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.registry import recipe
from supernet import AgentPaths, load, pick_device
from supernet.cell_operators import POOLS
from supernet.spaces.registry import supernet_of
from supernet.training.team import first_goes_first, team

HELD_OUT = 0.2
OWN_CELLS_RATE = 0.25  # of the learning rate, for a supernet of cells that all differ: at four times that its losses rose above chance

Candidates = Annotated[int, typer.Option("--evaluations", help="Networks that the agents draw to be scored, and random ones.", min=1)]
Peers = Annotated[int, typer.Option(help="Random networks of the budget that are trained as the winner is, each as long.", min=0)]
Kind = Annotated[str, typer.Option("--agents", help="How agents learn: least-squares (MANAS-LS) or exponential (MANAS).")]


@dataclass(frozen=True, kw_only=True)
class AskedManas(AskedOneShot):
    """With fewer candidates, and random networks beside the winner."""

    evaluations: Candidates = 100
    peers: Peers = 8


@recipe(
    "manas",
    summary="cells that all may differ, chosen by an agent an edge",
    paper="Carlucci et al. 2019, arXiv 1909.01051",
    page=write_report,
    team=True,
)
def manas(
    asked: AskedManas,
    space: c.Space = "darts",
    channels: c.Channels = None,
    cells: c.CellsOption = None,
    agents: Kind = "least-squares",
    epochs: o.Epochs = 50,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
) -> None:
    """Search cells with an agent for every edge: they draw what each step trains, and learn from images that the weights do not see.

    In the space darts every cell has edges of its own (14 choices a cell), at no more memory than one network takes. The winner is trained
    on its own, eight random networks of the budget beside it, and written to the run folder: model.pt, model.onnx, result.json,
    report.html; study.log has what the agents recommended after every epoch, and their regret.

    Example: evonas manas --data digits --budget macs=60% --epochs 30 --out runs/manas
    """
    c.known(space)
    if agents not in AGENTS:
        raise unknown("agents", agents, AGENTS)
    where = pick_device(asked.device)
    with team(where):
        with first_goes_first():
            images = load(asked.data, image_size=asked.image_size)
        settings = c.settings(space, channels, cells, images.image_shape, {"operators": list(POOLS["darts"]), "own_cells": True})
        supernet = supernet_of(space, images.image_shape, len(images.classes), **settings, seed=asked.seed)
        way = AgentPaths(supernet.space, agents=agents, held_out=HELD_OUT)
        training = c.training(batch_size, lr, images.image_shape, asked.seed, where)
        job = OneShot(
            supernet=supernet,
            family=space,
            space=settings,
            way=way,
            explorer=lambda limits: DistributionExplorer(supernet.space, limits, distribution=way.agents.distribution, seed=asked.seed),
            training={**training, "epochs": epochs, "lr": training["lr"] * (OWN_CELLS_RATE if space == "darts" else 1)},
            retraining={**training, "epochs": retrain_epochs or epochs, "average": AVERAGE},
            costs=costs.counted(supernet.space, supernet.parts()),
            trained_as={"family": space, "agents": agents},
        )
        one_shot(job, images, asked)
