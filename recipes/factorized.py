"""Factorised architectural parameters: operators and activation functions are chosen by weights of their own.

Wang et al., "Scalable NAS with Factorizable Architectural Parameters", 2019, arXiv 1912.13256: M operators and N activations are M * N
composite operators for the price of M + N weights and, where activations are mixed first, of M convolutions. The text of the paper was not
at hand beyond its abstract; `supernet.edges` says what was decided.

Departures: as in `recipes.darts`, which this is with one activation.
"""

from __future__ import annotations

from typing import Annotated

import typer

from evonas.errors import UsageError, unknown
from recipes.runner import cells as c
from recipes.runner import mixtures as m
from recipes.runner import options as o
from recipes.runner.pages.one_shot import write_report
from recipes.runner.progress import say
from recipes.runner.registry import recipe
from supernet.activations import ACTIVATIONS, SIX
from supernet.edges import FORMS

ALL_SIX = ",".join(SIX)
Activations = Annotated[str, typer.Option(help=f"Activation functions to choose from, out of {', '.join(ACTIVATIONS)}.")]
Form = Annotated[
    str,
    typer.Option(help="How factors are mixed: pre (activations, then operators), post, post-exact, or full (every pair by itself, slow)."),
]


@recipe(
    "factorized",
    summary="operators and activations, each with weights of their own",
    paper="Wang et al. 2019, arXiv 1912.13256",
    page=write_report,
    team=True,
)
def factorized(
    asked: m.AskedMixtures,
    space: c.Space = "darts",
    channels: c.Channels = None,
    cells: c.CellsOption = None,
    activations: Activations = ALL_SIX,
    form: Form = "pre",
    keep: m.Keep = 2,
    warmup: m.Warmup = 0.3,
    architecture_lr: m.ArchitectureLR = 6e-3,
    epochs: o.Epochs = 50,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
) -> None:
    """Search cells by gradient as DARTS does, where every edge chooses its activation function as well as its operator.

    The choice of activations costs a few passes over a map, not a convolution each. The strongest operators and activations make the
    derived network, which is trained on its own beside a few drawn from the weights; the best of them is written to the run folder:
    model.pt, model.onnx, result.json, report.html; study.log has what was derived after every epoch.

    Example: evonas factorized --data digits --budget macs=60% --epochs 30 --out runs/factorized
    """
    names = tuple(name.strip() for name in activations.split(","))
    for name in names:
        if name not in ACTIVATIONS:
            raise unknown("activation", name, ACTIVATIONS)
    if len(set(names)) != len(names):
        raise UsageError(f"Got --activations {activations}; expected every function once.")
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    if names == ("relu",):
        say("one activation, ReLU: this is DARTS (evonas darts)")
    m.search_mixtures(
        asked,
        space=space,
        channels=channels,
        cells=cells,
        activations=names,
        form=form,
        keep=keep,
        warmup=warmup,
        architecture_lr=architecture_lr,
        epochs=epochs,
        retrain_epochs=retrain_epochs,
        batch_size=batch_size,
        lr=lr,
    )
