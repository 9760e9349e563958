"""From images to a deployable network under a budget: the main job, and the pattern of every other recipe.

One supernet holds all candidates (SPOS: Guo et al., 2019, arXiv 1904.00420). Evolution proposes, a predictor screens, the
budget rejects, and inherited weights score the few that remain. The best network that keeps every bound when it is measured
whole is trained on its own, tested once, and delivered as weights, an ONNX file and a report.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from evonas import EvolutionExplorer, ScreenedExplorer
from recipes import movements
from recipes import options as o
from recipes.delivery import deliver, write_result
from recipes.progress import say
from recipes.report import write_report
from recipes.run_folder import RunFolder
from recipes.screens import screen
from supernet import InheritedFitness, UniformPaths, accuracy, load, mbconv, pick_device, train
from supernet.training.team import first_goes_first, rank, team

CALIBRATION_IMAGES = 512


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

    On many devices: torchrun --nproc-per-node 4 -m recipes.cli mobile ... (all of them train, the first one searches)
    """
    arguments = {name: value for name, value in locals().items() if name not in ("out", "fresh", "device")}
    where = pick_device(device)
    training: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "seed": seed, "device": where}
    retraining = {**training, "epochs": retrain_epochs or epochs, "lr": lr / 10 if inherit else lr}
    with team(where):
        with first_goes_first():
            images = load(data, image_size=image_size)
        space: dict[str, Any] = {
            "layout": layout,
            "widths": o.numbers(widths),
            "depths": o.numbers(depths),
            "squeeze_excite": squeeze_excite,
        }
        supernet = mbconv(images.image_shape, len(images.classes), **space, seed=seed)
        screening = screen(predictor, supernet)
        identity = {"data": data, "image_shape": list(images.image_shape), "classes": list(images.classes), **space}
        if rank() > 0:
            if from_run is None:
                train(supernet, UniformPaths(), images.train, epochs=epochs, **training)
            movements.help_retrain(supernet, images, inherit=inherit, **retraining)
            return

        with RunFolder(out, arguments, fresh=fresh) as run:
            limits, table = movements.bounded(run, supernet, budget, latency_table, seed)
            studies = movements.begin(run, table, supernet.space, storage)

            movements.train_supernet(run, supernet, UniformPaths(), images, identity, from_run, epochs=epochs, **training)

            calibration = images.train.head(CALIBRATION_IMAGES)
            fitness = InheritedFitness(supernet, images.search.head(len(images.search)), calibration, device=where)
            evolution = EvolutionExplorer(supernet.space, limits, seed=seed)
            explorer = evolution if screening is None else ScreenedExplorer(evolution, screening)
            worker = f"{platform.node()}:{Path(out).resolve()}" if storage else "0"
            found, control = movements.search_beside_random(explorer, fitness, studies, evaluations, worker)

            winner = movements.choose(run, supernet, limits, found, images, measured=latency_table is None)
            architecture = supernet.space.from_names(winner["architecture"])
            network = movements.retrain(run, supernet, architecture, images, inherit=inherit, **retraining)
            tested = accuracy(network, images.test, where)

            difference = deliver(network, images, winner["architecture"], space, run.path)
            result = write_result(run.path, winner, limits, table, tested, control, difference, seed)
            write_report(run.path, screening)
            say(f"delivered to {out}: {result}")
