"""Say what is on images, with the delivered file alone: neither torch nor the training data are needed."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evonas.app import APP, App
from evonas.errors import UsageError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def predict(
    run: Annotated[str, typer.Argument(help="A run folder, or a delivered app.onnx.")],
    images: Annotated[list[str], typer.Argument(help="Image files, or folders of them, of any size.")],
    top: Annotated[int, typer.Option(help="Classes told of each image.", min=1)] = 1,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write lines for a table instead: file, class, probability.")] = False,
) -> None:
    """Say what is on images, with the network of a finished run.

    Images of any size and colours: the middle is cut out, and colours are made those of the training images.

    Example: evonas predict runs/demo photo.jpg
    """
    path = Path(run)
    app = App(path / APP if path.is_dir() else path)
    files = [file for name in images for file in _files(Path(name))]
    if not files:
        raise UsageError(f"There is no image in {', '.join(images)}; expected files that end in {', '.join(IMAGES[:3])}, ...")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    width = max(len(str(file)) for file in files)
    for file in files:
        probabilities = app(app.pixels(file))[0]
        best = np.argsort(-probabilities, kind="stable")[:top]
        if as_csv:
            writer.writerows([file, app.classes[i], f"{probabilities[i]:.6f}"] for i in best)
        else:
            typer.echo(f"{file!s:{width}}  " + ", ".join(f"{app.classes[i]} {100 * probabilities[i]:.1f} %" for i in best))


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"There is no file {path}; expected an image or a folder of images.")
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
