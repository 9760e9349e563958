"""Cream: the best paths so far teach the path of every step, and what is delivered comes from their board.

Peng et al., "Cream of the Crop: Distilling Prioritized Paths For One-Shot Neural Architecture Search", 2020, arXiv 2010.15821, in its own
space: how deep the stages are follows from the range of multiply-accumulates that is asked for, and only paths within it are trained.

Departures: the board is where the search begins, not where it ends: an evolution goes on from its paths, ranked as in every search here,
and a few finalists are trained a little (`--evaluations 10` scores the board alone). With few images the board has five entries, the
matching network learns every 20 steps and ten times as fast, as trainings of minutes need.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evonas import Budget, EvolutionExplorer, Explorer, parse_bounds
from evonas.errors import UsageError
from predictors import costs
from recipes.runner import options as o
from recipes.runner.asked import AskedOneShot
from recipes.runner.final_training import AVERAGE
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.registry import recipe
from supernet import PrioritisedPaths, load, pick_device
from supernet.spaces.cream import MOST_BLOCKS, PRESETS, SIZES, depths_within
from supernet.spaces.cream import cream as cream_space
from supernet.spaces.layout import pick
from supernet.training.team import first_goes_first, team

FEW: dict[str, Any] = {"size": 5, "every": 20, "meta_lr": 1e-3}  # of the board and the matching network, for images below 64 pixels


@recipe(
    "cream",
    summary="the best paths so far teach the others",
    paper="Peng et al. 2020, arXiv 2010.15821",
    page=write_report,
    team=True,
)
def cream(
    asked: AskedOneShot,
    layout: o.Layout = None,
    widths: o.Widths = None,
    depths: o.Depths = None,
    epochs: o.Epochs = 120,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
) -> None:
    """Train a supernet whose best paths teach the others, and search on from the best of them.

    A bound macs=LOWER..UPPER in numbers decides how deep the stages are, unless --depths does; bounds on macs and params are kept by every
    path that is trained. The winner is trained on its own and written to the run folder: model.pt, model.onnx, result.json, report.html;
    study.log has the board of every epoch (study `epochs`).

    Example: evonas cream --data digits --budget macs=200k..700k --epochs 60 --out runs/cream
    """
    where = pick_device(asked.device)
    with team(where):
        with first_goes_first():
            images = load(asked.data, image_size=asked.image_size)
        small, classes = min(images.image_shape[1:]) < o.SMALL_IMAGE, len(images.classes)
        settings: dict[str, Any] = {"layout": layout, "widths": o.numbers(widths), "depths": o.numbers(depths)}
        if depths is None:
            settings["depths"] = _depths(settings, images.image_shape, classes, asked)
        supernet = cream_space(images.image_shape, classes, **settings, seed=asked.seed)
        counted = costs.counted(supernet.space, supernet.parts())
        bounds = [bound for bound in asked.bounds if bound.cost in counted]
        budget = Budget(counted, parse_bounds(bounds, supernet.space, counted)) if bounds else None
        way = PrioritisedPaths(counted["macs"], classes, budget=budget, **(FEW if small else {}))
        training = o.training_by_size(images.image_shape, batch_size, lr, asked.seed, where)

        def explorer(limits: Budget) -> Explorer:
            board = np.array([entry.path for entry in way.board.entries], dtype=np.int64).reshape(-1, len(supernet.space))
            return EvolutionExplorer(supernet.space, limits, seed=asked.seed, first=board[limits.feasible(board)])

        job = OneShot(
            supernet=supernet,
            family="cream",
            space=settings,
            way=way,
            explorer=explorer,
            training={**training, "epochs": epochs},
            retraining={**training, "epochs": retrain_epochs or epochs, "average": AVERAGE},
            costs=counted,
            trained_as={"family": "cream", "trained_within": None if budget is None else budget.plain_bounds()},
        )
        one_shot(job, images, asked)


def _depths(settings: dict[str, Any], image_shape: tuple[int, int, int], classes: int, asked: AskedOneShot) -> list[int] | None:
    """Depths for the range of MACs that is asked for, where it is asked for in numbers; None leaves the layout's.

    Raises:
        UsageError: no depths suit the range.
    """
    bound = next((bound for bound in asked.bounds if bound.cost == "macs"), None)
    if bound is None or bound.lower.endswith("%") or bound.upper.endswith("%"):
        return None
    ends = bound.numbers({"macs": ""})
    stages = len(pick(settings["layout"], PRESETS, SIZES, image_shape).stages)
    supernet = cream_space(image_shape, classes, **{**settings, "depths": [MOST_BLOCKS] * stages})
    table = costs.macs(supernet.space, supernet.parts())
    values = {column: each.values for each in table.tables for column in each.columns}
    blocks = iter(range(len(supernet.space)))
    by_stage = [[values[next(blocks)] for _ in range(MOST_BLOCKS)] for _ in range(stages)]
    smallest, largest = ([[float(end(block)) for block in blocks] for blocks in by_stage] for end in (np.min, np.max))
    if not ends.upper < np.inf:
        raise UsageError("The bound on macs has no upper end; expected macs=UPPER or macs=LOWER..UPPER.")
    return depths_within(table.constant, smallest, largest, ends.lower, ends.upper)
