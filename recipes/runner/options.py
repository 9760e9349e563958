"""Options that recipes share on the command line, with the words that explain them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Data = Annotated[
    str,
    typer.Option(
        help="Images: digits, cifar10, cifar100, fashion_mnist, a folder of images (one folder for each class), "
        "or an .npz file with x_train, y_train, x_test, y_test."
    ),
]
Bounds = Annotated[
    list[str],
    typer.Option(
        "--budget",
        help="A bound, NAME=UPPER or NAME=LOWER..UPPER, any number of times. Names: macs (multiply-accumulates), params, size "
        "(of the weights), latency. Numbers take units: macs=30M, size=1MB, latency=8ms. "
        "A share asks for the cheapest part of the space: latency=30%.",
    ),
]
Out = Annotated[str, typer.Option(help="Run folder. The same command again continues a run that was interrupted.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, training, search.", min=0)]
Space = Annotated[
    str,
    typer.Option(
        help="Search space (evonas list), yours among them: @supernet.space. The options about its size below are those of mbconv."
    ),
]
Layout = Annotated[
    str | None, typer.Option(help="Widths and depths: digits, tiny, small or mobile. Chosen by the image size unless told otherwise.")
]
Widths = Annotated[str | None, typer.Option(help="Channels of the stages in place of the layout's, for example 16,24,40.")]
Depths = Annotated[str | None, typer.Option(help="Blocks of the stages in place of the layout's, for example 2,3,3.")]
SqueezeExcite = Annotated[bool, typer.Option("--squeeze-excite", help="Offer every operator with squeeze-and-excitation as well.")]
ImageSize = Annotated[int | None, typer.Option(help="Pixels that images of a folder are cropped to (224 unless told otherwise).", min=8)]
Epochs = Annotated[int, typer.Option(help="Epochs of supernet training.", min=1)]
RetrainEpochs = Annotated[
    int | None,
    typer.Option(
        help="Epochs of the winner's training, the best use of more time; as many as the supernet's unless told otherwise.", min=1
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images in a training step.", min=2)]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate.", min=0)]
LearningRateBySize = Annotated[
    float | None,
    typer.Option(help="Peak learning rate; unless told otherwise 0.2 for images below 64 pixels and 0.1 for others.", min=0),
]
Evaluations = Annotated[int, typer.Option(help="Networks that the search scores, and random search beside it.", min=1)]
Predictor = Annotated[
    str, typer.Option(help="What screens the candidates that evolution proposes: boosted-trees, nn-degree, or none (see evonas list).")
]
ExplorerName = Annotated[
    str,
    typer.Option("--explorer", help="What proposes networks (evonas list), yours among them; --predictor screens for evolution alone."),
]
LatencyFile = Annotated[
    str | None,
    typer.Option(
        "--latency-table",
        help="A device that is not here: its latency table (JSON), or about ten networks measured on it (CSV, see evonas measure; "
        "other CSV files in the folder are devices to learn from). Without one, this host is measured.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="EVONAS_STORAGE",
        help="Where trials are kept, for several workers: an Optuna storage URL (postgresql, mysql, sqlite), a journal file, or @FILE with "
        "the URL in it. A journal file in the run folder unless told otherwise. Passwords are kept nowhere.",
    ),
]
StudyName = Annotated[
    str | None, typer.Option("--study", help="Name of the search in the storage; the same for all of its workers. The run folder's name.")
]
TrustStorage = Annotated[
    bool,
    typer.Option("--trust-storage", help="Take a redis:// storage: whoever can write to that server can run code here."),
]
Artifacts = Annotated[
    str | None,
    typer.Option(
        help="Folder or bucket (s3://, gs://) that all workers reach: one of them trains the supernet and puts it there, others take it."
    ),
]
FromRun = Annotated[
    str | None, typer.Option("--supernet", help="Run folder whose trained supernet is searched again: one supernet, many budgets.")
]
Inherit = Annotated[bool, typer.Option("--inherit", help="Fine-tune the winner's inherited weights instead of training it from scratch.")]
Finalists = Annotated[
    int,
    typer.Option(
        help="Networks that are trained a little each, to find the winner: the best of the search and the largest by hand, in turn; "
        "together they cost one training more.",
        min=1,
    ),
]
Teacher = Annotated[
    str,
    typer.Option(
        help="What finalists and the winner learn from beside the labels: largest (of the space, trained first, for a few times as long), "
        "none, or the folder of a finished run on the same data."
    ),
]
Peers = Annotated[
    int,
    typer.Option(
        help="Random networks of the same budget that are trained exactly as the winner, to say where it stands; each costs a training. "
        "They can be asked for later, of a run that is finished.",
        min=0,
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Remove what an earlier run left in the run folder.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be done, how long it will take and whether the budget can be met; then stop."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


SMALL_IMAGE, SMALL_RATE, LARGE_RATE, SMALL_DECAY, LARGE_DECAY = 64, 0.2, 0.1, 5e-4, 4e-5


def rate_by_size(image_shape: tuple[int, int, int]) -> float:
    """The learning rate for 64 images a step, where none is asked for: see `LearningRateBySize`. Small images are learned from faster."""
    return SMALL_RATE if min(image_shape[1:]) < SMALL_IMAGE else LARGE_RATE


def weight_decay_by_size(image_shape: tuple[int, int, int]) -> float:
    """Thousands of small images need more of it than many large ones."""
    return SMALL_DECAY if min(image_shape[1:]) < SMALL_IMAGE else LARGE_DECAY


def training_by_size(image_shape: tuple[int, int, int], batch_size: int, lr: float | None, seed: int, device: Any) -> dict[str, Any]:
    """Settings of `supernet.train` for chains: the learning rate, unless it is told, and the weight decay by image size."""
    rate = rate_by_size(image_shape) if lr is None else lr
    decay = weight_decay_by_size(image_shape)
    return {"batch_size": batch_size, "lr": rate, "weight_decay": decay, "seed": seed, "device": device}


def numbers(text: str | None) -> list[int] | None:
    """ "16,24,40" as a list."""
    from evonas.errors import UsageError

    try:
        return None if text is None else [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"Malformed list {text!r}; expected whole numbers with commas between, such as 16,24,40.") from None
