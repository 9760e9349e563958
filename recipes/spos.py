"""Single Path One-Shot: blocks, channels, both at once, or the bits of a residual network, searched by evolution on one supernet.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420, with the hyper-parameters
of the paper and its code for photographs and of a port for CIFAR-size images. The paper searches blocks first (`--search blocks`), then
channels on the blocks that were found (`--search channels --blocks RUN`).

Departures: every candidate is scored on the same images, which are held out of the training images, where the released code scores
candidates on changing parts of the validation set; statistics of batch norm are plain means, not moving ones; images are normalised
and in RGB, and cropped to 35 % or more of their area, where the code has 8 %; at most 10,000 images select, where the paper has 50,000;
channels and bits are searched with warm-up, which comes from ports that search blocks and channels at once (`--sampler uniform` is the
paper's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Annotated, Any

import typer

from evonas import EvolutionExplorer
from evonas.errors import UsageError, unknown
from evonas.files import read_json
from predictors import costs
from recipes.runner.front import AskedFront
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.progress import say
from recipes.runner.registry import recipe
from recipes.runner.run_folder import finished
from recipes.runner.shrinking import NONE, Shrink, shrunk, trained_as
from supernet import BinnedPaths, ImageData, UniformPaths, WarmUp, load, pick_device, quantised, shuffle
from supernet.chain import ChainSupernet
from supernet.loading import FOLDER_IMAGE_SIZE
from supernet.spaces import WIDTHS
from supernet.spaces.layout import preset_for
from supernet.training.binned import usual_range
from supernet.training.schedule import cosine, linear
from supernet.training.team import first_goes_first, rank, team
from supernet.training.way import Way


@dataclass(frozen=True)
class Preset:
    """Hyper-parameters for images of a size.

    Attributes:
        epochs, retrain_epochs: of the supernet and of the winner.
        batch_size, lr, weight_decay: of both.
        warmup_epochs, decay, clip: see `supernet.training.loop.train`.
        calibration_images: that batch-norm statistics of a candidate are taken from.
        color_jitter: of the images of a folder.
    """

    epochs: int
    retrain_epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup_epochs: float = 0.0
    decay: Callable[[float], float] = cosine
    clip: float = 5.0
    calibration_images: int = 512
    color_jitter: float = 0.0


SIZES = {"small": 24, "cifar": 64, "imagenet": inf}  # largest images, in pixels
PRESETS: dict[str, Preset] = {
    # ours, for minutes on a CPU
    "small": Preset(60, 60, 64, 0.1, 4e-5, warmup_epochs=2.0),
    # ShunLu91's port to CIFAR-10; its schedule is a cosine
    "cifar": Preset(600, 600, 96, 0.025, 3e-4, calibration_images=5000),
    # the released code: 150,000 and 300,000 steps of 1,024 images
    "imagenet": Preset(120, 240, 1024, 0.5, 4e-5, decay=linear, clip=inf, calibration_images=25_600, color_jitter=0.4),
}

SEARCHES = ("blocks", "channels", "joint", "bits")
SAMPLERS = ("uniform", "bins", "warm-up")

What = Annotated[
    str,
    typer.Option(
        "--search",
        help="blocks: which operator each of them runs. channels: how wide each is, on the blocks of another run (--blocks). joint: both "
        "at once. bits: how many bits the weights and activations of a residual network's blocks have.",
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Hyper-parameters: small (minutes on a CPU), cifar (600 epochs) or imagenet (the paper's). By the image size unless told "
        "otherwise; the options below replace single ones.",
    ),
]
Blocks = Annotated[str | None, typer.Option("--blocks", help="Run folder of a search for blocks, for --search channels.")]
Sampler = Annotated[
    str | None,
    typer.Option(
        help="Paths of supernet training: uniform, bins (uniform over seven ranges of MACs) or warm-up (the widest, or those of most bits, "
        "first; smaller ones are let in from half of the epochs on). uniform for blocks, warm-up for the rest, unless told otherwise."
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        help="Widths and depths: digits, tiny, cifar or imagenet; with --search bits tiny, small, resnet18 or resnet34. "
        "By the image size unless told otherwise."
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Epochs of supernet training, in place of the preset's.", min=1)]
RetrainEpochs = Annotated[int | None, typer.Option(help="Epochs of the winner's training, in place of the preset's.", min=1)]
BatchSize = Annotated[int | None, typer.Option(help="Images in a training step, in place of the preset's.", min=2)]
LearningRate = Annotated[float | None, typer.Option(help="Peak learning rate, in place of the preset's.", min=0)]
Bounds = Annotated[
    list[str],
    typer.Option(
        "--budget",
        help="A bound, NAME=UPPER or NAME=LOWER..UPPER, any number of times. Names: macs (multiply-accumulates), params, latency; with "
        "--search bits only bitops (multiply-accumulates times bits of weights times bits of activations). "
        "macs=330M, latency=8ms, bitops=30%.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class AskedSpos(AskedFront):
    """With a budget that knows bits."""

    budget: Bounds = field(default_factory=list)


@recipe(
    "spos",
    summary="blocks, channels, both, or bits, by evolution on single paths",
    paper="Guo et al. 2019, arXiv 1904.00420",
    page=write_report,
    team=True,
)
def spos(
    asked: AskedSpos,
    search: What = "blocks",
    blocks: Blocks = None,
    preset: PresetName = None,
    layout: Layout = None,
    sampler: Sampler = None,
    shrink: Shrink = NONE,
    epochs: Epochs = None,
    retrain_epochs: RetrainEpochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
) -> None:
    """Search blocks, channels or bits as Single Path One-Shot does: one supernet of single paths, then evolution.

    A supernet is trained on the images, one random path a step; evolution (50 a generation, the best 10 are parents) searches it under
    the budget, every candidate with batch-norm statistics of its own; the winner is trained on its own and written to the run folder:
    model.pt, model.onnx, result.json, report.html.

    Example: evonas spos --data cifar10 --budget macs=180M --out runs/blocks

    then: evonas spos --data cifar10 --search channels --blocks runs/blocks --budget macs=180M --out runs/channels
    """
    check(search, preset, sampler, blocks, asked.latency_table)
    where = pick_device(asked.device)
    with team(where):
        with first_goes_first():
            images, chosen = with_preset(asked.data, asked.image_size, preset)
        supernet, space = build(search, images, layout, asked.seed)
        fixed = None if blocks is None else blocks_of(Path(blocks), supernet, asked.arguments)
        if fixed is not None:
            supernet.space = supernet.space.narrow({name: [option] for name, option in fixed.items()})
        training: dict[str, Any] = {
            "batch_size": batch_size or chosen.batch_size,
            "lr": chosen.lr if lr is None else lr,
            "weight_decay": chosen.weight_decay,
            "warmup_epochs": chosen.warmup_epochs,
            "decay": chosen.decay,
            "clip": chosen.clip,
            "seed": asked.seed,
            "device": where,
        }
        kind = sampler or ("uniform" if search == "blocks" else "warm-up")
        way_of(kind, supernet).check(supernet.space, epochs or chosen.epochs)  # too few are refused before anything is measured
        family, parts = "quantised" if search == "bits" else "shuffle", supernet.parts()
        job = OneShot(
            supernet=supernet,
            family=family,
            space=space,
            **shrunk(lambda: way_of(kind, supernet), shrink, asked.seed),
            explorer=lambda limits: EvolutionExplorer(supernet.space, limits, seed=asked.seed),
            training={**training, "epochs": epochs or chosen.epochs},
            retraining={**training, "epochs": retrain_epochs or chosen.retrain_epochs, "lr": training["lr"] / (10 if asked.inherit else 1)},
            costs={"bitops": costs.bit_ops(supernet.space, parts)} if search == "bits" else costs.counted(supernet.space, parts),
            timed=search != "bits",
            calibration_images=chosen.calibration_images,
            reestimate=True,
            trained_as={"family": family, "blocks": fixed, **trained_as(shrink)},
        )
        if search == "bits" and rank() == 0:
            say("latency is no cost here: bits are simulated in floating point, which says nothing of a device that computes with few")
        one_shot(job, images, asked)


def check(search: str, preset: str | None, sampler: str | None, blocks: str | None, latency_table: str | None) -> None:
    """Names and combinations of arguments.

    Raises:
        UsageError: an unknown name, or arguments that do not go together.
    """
    offered: tuple[tuple[str, str | None, Iterable[str]], ...] = (
        ("search", search, SEARCHES),
        ("preset", preset, PRESETS),
        ("sampler", sampler, SAMPLERS),
    )
    for what, value, names in offered:
        if value is not None and value not in names:
            raise unknown(what, value, names)
    if (search == "channels") != (blocks is not None):
        raise UsageError(
            f"Got --search {search} {'with' if blocks else 'without'} --blocks; expected a run's blocks for channels, and only there."
        )
    if search == "bits" and sampler == "bins":
        raise UsageError("Got --sampler bins with --search bits, where all networks have as many MACs; expected uniform or warm-up.")
    if search == "blocks" and sampler == "warm-up":
        raise UsageError("Got --sampler warm-up with --search blocks, where all have one width; expected uniform or bins.")
    if search == "bits" and latency_table is not None:
        raise UsageError("Got --latency-table with --search bits, where latency is no cost; leave it out.")


def with_preset(data: str, image_size: int | None, preset: str | None) -> tuple[ImageData, Preset]:
    """The images, and the hyper-parameters for their size unless a preset is named."""
    if Path(data).is_dir():
        chosen = PRESETS[preset or preset_for(image_size or FOLDER_IMAGE_SIZE, SIZES)]
        return load(data, image_size=image_size, color_jitter=chosen.color_jitter), chosen
    images = load(data, image_size=image_size)
    chosen = PRESETS[preset or preset_for(min(images.image_shape[1:]), SIZES)]
    if chosen.color_jitter and rank() == 0:
        say("colours of the training images are not varied: that is done for folders only")
    return images, chosen


def build(search: str, images: ImageData, layout: str | None, seed: int) -> tuple[ChainSupernet, dict[str, Any]]:
    """The supernet of a search, and the arguments that its space was made with."""
    space: dict[str, Any] = {"layout": layout}
    if search == "bits":
        return quantised(images.image_shape, len(images.classes), **space, seed=seed), space
    space["widths"] = ["1.0"] if search == "blocks" else list(WIDTHS)
    return shuffle(images.image_shape, len(images.classes), **space, seed=seed), space


def way_of(sampler: str, supernet: ChainSupernet) -> Way:
    """How the supernet is trained: one of `SAMPLERS`."""
    if sampler == "bins":
        cost = costs.macs(supernet.space, supernet.parts())
        return BinnedPaths(cost, *usual_range(supernet.space, cost))
    return WarmUp() if sampler == "warm-up" else UniformPaths()


def blocks_of(run: Path, supernet: ChainSupernet, arguments: Mapping[str, Any]) -> dict[str, str]:
    """The operators that another run found, by choice.

    Raises:
        UsageError: the run is not finished, was no search for blocks, or one with another layout or other images.
    """
    result, config = read_json(finished(run) / "result.json"), read_json(run / "config.json")
    if result.get("recipe") != "spos" or config.get("search") != "blocks":
        raise UsageError(f"{run} is no search for blocks; expected a run of evonas spos --search blocks.")
    found: dict[str, str] = result["architecture"]
    expected = [name for name in supernet.space.names if name.endswith(".op")]
    if list(found) != expected or any(config[name] != arguments[name] for name in ("data", "layout", "image_size")):
        raise UsageError(
            f"{run} found {len(found)} blocks of the layout {config['layout'] or 'for its image size'} on {config['data']}; "
            f"expected the {len(expected)} of this one. Use its --layout, --data and --image-size."
        )
    return found
