"""NetAdaptV2: a supernet of widths, depths and kernels trained by ordered dropout, and a walk down from its largest network to the budget.

Yang, Liao and Sze, "NetAdaptV2: Efficient Neural Architecture Search with Fast Super-Network Training and Architecture Optimization", 2021,
arXiv 2104.00031: channel-level bypass connections (`supernet.bypass_block`), ordered dropout (`supernet.training.ordered_dropout`), and
multi-layer coordinate descent (`evonas.explorers.coordinate_descent`). The budget is a black box: MACs, a table, or what this host
measures.

Departures: candidates are ranked by the likelihood of the labels, finer than accuracy; the best few of the networks at the budget, and what
one would try by hand, are trained a little before one of them is chosen.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from evonas import CoordinateDescentExplorer
from evonas.errors import UsageError
from predictors import costs
from recipes.runner import options as o
from recipes.runner.asked import AskedOneShot
from recipes.runner.final_training import AVERAGE
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.registry import recipe
from supernet import OrderedDropout, load, pick_device
from supernet.spaces.registry import supernet_of

Samples = Annotated[int, typer.Option(help="Networks that a step of the descent tries.", min=2)]
Step = Annotated[float, typer.Option(help="Share of the largest network's cost that the first step saves.", min=0.001, max=0.9)]
Together = Annotated[
    int | None, typer.Option(help="Choices that a network of a step changes; a quarter of all unless told otherwise.", min=1)
]


@recipe(
    "netadaptv2",
    summary="trains many widths a pass, walks down to the budget",
    paper="Yang et al. 2021, arXiv 2104.00031",
    page=write_report,
)
def netadaptv2(
    asked: AskedOneShot,
    layout: o.Layout = None,
    widths: o.Widths = None,
    depths: o.Depths = None,
    samples: Samples = 50,
    step: Step = 0.06,
    together: Together = None,
    epochs: o.Epochs = 120,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
) -> None:
    """Train a supernet in which every image of a batch has a network of its own, and walk down from the largest to the budget.

    A block may have any share of its filters, down to none. A step of the descent tries some dozens of networks that are a
    little cheaper, and goes on from the one that loses least for what it saves; the last steps are tried again while there are
    evaluations left. The winner is trained on its own and written to the run folder: model.pt, model.onnx, result.json, report.html.

    Example: evonas netadaptv2 --data digits --budget latency=30% --epochs 60 --out runs/netadaptv2
    """
    if not any(bound.upper for bound in asked.bounds):
        raise UsageError("A descent ends at a budget; expected at least one, such as --budget latency=30%.")
    where = pick_device(asked.device)
    settings: dict[str, Any] = {"layout": layout, "widths": o.numbers(widths), "depths": o.numbers(depths)}
    settings = {name: value for name, value in settings.items() if value}
    images = load(asked.data, image_size=asked.image_size)
    supernet = supernet_of("bypass", images.image_shape, len(images.classes), **settings, seed=asked.seed)
    training = o.training_by_size(images.image_shape, batch_size, lr, asked.seed, where)
    job = OneShot(
        supernet=supernet,
        family="bypass",
        space=settings,
        way=OrderedDropout(),
        explorer=lambda limits: CoordinateDescentExplorer(
            supernet.space, limits, seed=asked.seed, generation_size=samples, together=together, first_step=step
        ),
        training={**training, "epochs": epochs},
        retraining={**training, "epochs": retrain_epochs or epochs, "average": AVERAGE},
        costs=costs.counted(supernet.space, supernet.parts()),
        trained_as={"family": "bypass", "way": "ordered dropout"},
    )
    one_shot(job, images, asked)
