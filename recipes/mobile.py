"""From images to a deployable network under a budget: the main job, and the pattern of every other recipe.

One supernet holds all candidates (SPOS: Guo et al., 2019, arXiv 1904.00420). Evolution proposes, a predictor screens, the
budget rejects, and inherited weights score the few that remain. The best network that keeps every bound when it is measured
whole is trained on its own, tested once, and delivered as weights, an ONNX file and a report.
"""

from __future__ import annotations

from typing import Any

from evonas import Budget, EvolutionExplorer, Explorer, ScreenedExplorer
from recipes.runner import options as o
from recipes.runner.movements import counted
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.screens import screen
from supernet import UniformPaths, load, mbconv, pick_device
from supernet.training.team import first_goes_first, team


def mobile(
    data: o.Data = "digits",
    budget: o.Bounds = [],  # noqa: B006 (the command line's default; never changed)
    out: o.Out = "runs/mobile",
    seed: o.Seed = 0,
    layout: o.Layout = None,
    widths: o.Widths = None,
    depths: o.Depths = None,
    squeeze_excite: o.SqueezeExcite = False,
    image_size: o.ImageSize = None,
    epochs: o.Epochs = 120,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRate = 0.1,
    evaluations: o.Evaluations = 1000,
    predictor: o.Predictor = "boosted-trees",
    latency_table: o.LatencyFile = None,
    storage: o.Storage = None,
    from_run: o.FromRun = None,
    inherit: o.Inherit = False,
    fresh: o.Fresh = False,
    device: o.Device = "auto",
) -> None:
    """Find a small, fast image network for a stated budget, train it, and deliver it.

    A supernet is trained on the images; evolution behind a predictor searches it under the budget; the winner is
    measured whole, trained on its own and written to the run folder: model.pt, model.onnx, result.json, report.html.

    Example: evonas mobile --data digits --budget macs=600k --budget latency=0.03ms --out runs/demo

    On many devices: torchrun --nproc-per-node 4 -m recipes mobile ... (all of them train, the first one searches)
    """
    arguments = {name: value for name, value in locals().items() if name not in ("out", "fresh", "device")}
    where = pick_device(device)
    training: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "seed": seed, "device": where}
    space: dict[str, Any] = {
        "layout": layout,
        "widths": o.numbers(widths),
        "depths": o.numbers(depths),
        "squeeze_excite": squeeze_excite,
    }
    with team(where):
        with first_goes_first():
            images = load(data, image_size=image_size)
        supernet = mbconv(images.image_shape, len(images.classes), **space, seed=seed)
        screening = screen(predictor, supernet)

        def explorer(limits: Budget) -> Explorer:
            evolution = EvolutionExplorer(supernet.space, limits, seed=seed)
            return evolution if screening is None else ScreenedExplorer(evolution, screening)

        job = OneShot(
            recipe="mobile",
            supernet=supernet,
            family="mbconv",
            space=space,
            way=UniformPaths(),
            explorer=explorer,
            training={**training, "epochs": epochs},
            retraining={**training, "epochs": retrain_epochs or epochs, "lr": lr / 10 if inherit else lr},
            costs=counted(supernet),
            screening=screening,
        )
        one_shot(job, images, arguments, out=out, fresh=fresh)
