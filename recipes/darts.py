"""DARTS: the weights of all operators are learned together with the network, and the strongest of every edge is kept.

Liu et al., "DARTS: Differentiable Architecture Search", 2018, arXiv 1806.09055, first order.

Departures: the derived network is one of the finalists, beside networks drawn from what was learned, and short trainings choose among them;
all of them keep the budget. The second-order gradient is not offered: the paper gains little by it, at three times the time.
"""

from __future__ import annotations

from recipes.runner import cells as c
from recipes.runner import mixtures as m
from recipes.runner import options as o
from recipes.runner.pages.one_shot import write_report
from recipes.runner.registry import recipe
from supernet.edges import ONLY_RELU


@recipe(
    "darts",
    summary="a mixture of all operators learns which of them to keep",
    paper="Liu et al. 2018, arXiv 1806.09055",
    page=write_report,
    team=True,
)
def darts(
    asked: m.AskedMixtures,
    space: c.Space = "darts",
    channels: c.Channels = None,
    cells: c.CellsOption = None,
    keep: m.Keep = 2,
    warmup: m.Warmup = 0.0,
    architecture_lr: m.ArchitectureLR = 3e-3,
    epochs: o.Epochs = 50,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
) -> None:
    """Search cells by gradient: a mixture of all operators is trained, its weights on half of the images and the network on the others.

    The strongest operators make the derived network, which is trained on its own beside a few drawn from the weights; the best of them is
    written to the run folder: model.pt, model.onnx, result.json, report.html; study.log has what was derived after every epoch. It is
    `factorized` with one activation. What it derives on small images: docs/evidence/factorized.md.

    Example: evonas darts --data digits --budget macs=60% --epochs 30 --out runs/darts
    """
    m.search_mixtures(
        asked,
        space=space,
        channels=channels,
        cells=cells,
        activations=ONLY_RELU,
        form="pre",
        keep=keep,
        warmup=warmup,
        architecture_lr=architecture_lr,
        epochs=epochs,
        retrain_epochs=retrain_epochs,
        batch_size=batch_size,
        lr=lr,
    )
