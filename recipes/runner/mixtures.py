"""What DARTS and its relatives have in common: a mixture of all operators learns its weights, and a network is derived from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from evonas import Budget, DistributionExplorer
from evonas.space import Population
from predictors import costs
from recipes.runner import cells as c
from recipes.runner.asked import AskedOneShot
from recipes.runner.final_training import AVERAGE
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.progress import say
from supernet import LearnedMixtures, load, pick_device
from supernet.cell_operators import POOLS
from supernet.spaces.registry import supernet_of
from supernet.training.team import first_goes_first, team

HELD_OUT = 0.5

Candidates = Annotated[
    int, typer.Option("--evaluations", help="Networks drawn from what was learned that are scored beside the derived one.", min=1)
]
ArchitectureLR = Annotated[float, typer.Option("--architecture-lr", help="Learning rate of the weights of options.", min=0)]
Warmup = Annotated[float, typer.Option(help="Share of the epochs in which only the network learns.", min=0, max=1)]
Keep = Annotated[int, typer.Option(help="Edges that a node of the derived cells keeps, the strongest; 0 keeps all.", min=0)]


@dataclass(frozen=True, kw_only=True)
class AskedMixtures(AskedOneShot):
    """With fewer candidates."""

    evaluations: Candidates = 50


def search_mixtures(
    asked: AskedMixtures,
    *,
    space: str,
    channels: int | None,
    cells: int | None,
    activations: Sequence[str],
    form: str,
    keep: int,
    warmup: float,
    architecture_lr: float,
    epochs: int,
    retrain_epochs: int | None,
    batch_size: int,
    lr: float | None,
) -> None:
    """Train a mixture with the weights of its options, derive a network, and compare it with others drawn from the weights.

    Arguments are the options of the recipes; `activations` and `form` as in `supernet.edges`.
    """
    c.known(space)
    where = pick_device(asked.device)
    with team(where):
        with first_goes_first():
            images = load(asked.data, image_size=asked.image_size)
        settings = c.settings(space, channels, cells, images.image_shape, {"operators": list(POOLS["darts"])})
        settings |= {"activations": list(activations), "form": form}
        supernet = supernet_of(space, images.image_shape, len(images.classes), **settings, seed=asked.seed)
        way = LearnedMixtures(
            supernet.space, held_out=HELD_OUT, keep=keep or None, warmup=warmup, architecture_lr=architecture_lr, seed=asked.seed
        )
        training = c.training(batch_size, lr, images.image_shape, asked.seed, where)

        def derived(limits: Budget) -> Population:
            row = np.array([way.weights.derived(supernet, keep or None)])
            if not limits.feasible(row)[0]:
                say(f"the derived network breaks the budget ({limits}); networks drawn from what was learned take its place")
                return row[:0]
            return row

        job = OneShot(
            supernet=supernet,
            family=space,
            space=settings,
            way=way,
            explorer=lambda limits: DistributionExplorer(
                supernet.space, limits, distribution=way.weights.distribution(supernet.space), seed=asked.seed
            ),
            training={**training, "epochs": epochs},
            retraining={**training, "epochs": retrain_epochs or epochs, "average": AVERAGE},
            costs=costs.counted(supernet.space, supernet.parts()),
            trained_as={"family": space, "keep": keep, "warmup": warmup, "architecture_lr": architecture_lr},
            by_hand=derived,
        )
        one_shot(job, images, asked)
