"""From images to a deployable network under a budget: the main job, and the pattern of every other recipe.

One supernet holds all candidates (SPOS: Guo et al., 2019, arXiv 1904.00420). What one would try by hand comes first, then evolution
proposes, a predictor screens, the budget rejects, and the likelihood with inherited weights, fused with what is counted, ranks the few
that remain. The best that keep every bound when they are measured whole, and the largest of those by hand, train a little each; the best
of them is trained on its own, by the labels and by a teacher (the largest network of the space), tested once, and delivered as weights, an
ONNX file and a report.
"""

from __future__ import annotations

from typing import Any

from evonas import EXPLORERS, Budget, EvolutionExplorer, Explorer, ScreenedExplorer
from predictors.costs import counted
from predictors.screens import screen
from recipes.runner import options as o
from recipes.runner.final_training import AVERAGE
from recipes.runner.front import AskedFront
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.registry import recipe
from recipes.runner.shrinking import NONE, Shrink, shrunk, trained_as
from recipes.runner.teacher import LARGEST
from supernet import UniformPaths, load, pick_device
from supernet.spaces.registry import supernet_of
from supernet.training.team import first_goes_first, team

EVOLUTION = "evolution"


@recipe(
    "mobile", summary="a network for a budget, from images to ONNX", paper="Guo et al. 2019, arXiv 1904.00420", page=write_report, team=True
)
def mobile(
    asked: AskedFront,
    space: o.Space = "mbconv",
    layout: o.Layout = None,
    widths: o.Widths = None,
    depths: o.Depths = None,
    squeeze_excite: o.SqueezeExcite = False,
    epochs: o.Epochs = 120,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
    shrink: Shrink = NONE,
    explorer: o.ExplorerName = EVOLUTION,
    predictor: o.Predictor = "boosted-trees",
    teacher: o.Teacher = LARGEST,
) -> None:
    """Find a small, fast image network for a stated budget, train it, and deliver it.

    A supernet is trained on the images; evolution behind a predictor searches it under the budget; the winner is
    found among the best eight by short trainings, learns from the largest network of the space, and is written to
    the run folder: model.pt, model.onnx, result.json, report.html.

    Example: evonas mobile --data digits --budget macs=600k --budget latency=0.03ms --out runs/demo

    On many devices: torchrun --nproc-per-node 4 -m evonas mobile ... (all of them train, the first one searches)
    """
    where = pick_device(asked.device)
    settings: dict[str, Any] = {
        "layout": layout,
        "widths": o.numbers(widths),
        "depths": o.numbers(depths),
        "squeeze_excite": squeeze_excite,
    }
    if space != "mbconv":  # takes what is asked for, if it does
        settings = {name: value for name, value in settings.items() if value}
    with team(where):
        with first_goes_first():
            images = load(asked.data, image_size=asked.image_size)
        training = o.training_by_size(images.image_shape, batch_size, lr, asked.seed, where)
        supernet = supernet_of(space, images.image_shape, len(images.classes), **settings, seed=asked.seed)
        screening = screen(predictor, supernet) if explorer == EVOLUTION else None
        proposing = EXPLORERS.pick(explorer).make

        def proposer(limits: Budget) -> Explorer:
            if explorer != EVOLUTION:
                return proposing(supernet.space, limits, asked.seed)
            evolution = EvolutionExplorer(supernet.space, limits, seed=asked.seed)
            return evolution if screening is None else ScreenedExplorer(evolution, screening)

        job = OneShot(
            supernet=supernet,
            family=space,
            space=settings,
            trained_as={**({} if space == "mbconv" else {"family": space}), **trained_as(shrink)},
            **shrunk(UniformPaths, shrink, asked.seed),
            explorer=proposer,
            training={**training, "epochs": epochs},
            retraining={**training, "epochs": retrain_epochs or epochs, "average": AVERAGE},
            costs=counted(supernet.space, supernet.parts()),
            screening=screening,
            teacher=teacher,
        )
        one_shot(job, images, asked)
