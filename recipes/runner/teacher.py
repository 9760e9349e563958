"""The teacher: a network that finalists, the winner and its peers learn from when they are trained on their own.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531. The largest network of the space, trained once
without regard to any bound, is hardly better than those that keep the bounds, and still teaches them more than labels alone do
(docs/evidence/instead.md). Its weights are drawn anew: fine-tuned from the supernet it was ten points worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evonas.budget import Budget, Cost
from evonas.errors import UsageError
from evonas.extremes import cheapest_and_dearest
from evonas.units import format_quantity
from recipes.runner.delivery import load_model
from recipes.runner.final_training import FinalTraining
from recipes.runner.progress import say
from supernet import ImageData, accuracy

LARGEST, NONE = "largest", "none"


def given(teacher: str | nn.Module | None, images: ImageData) -> nn.Module | None:
    """The network that a finished run delivered, where its folder is what was asked for; a network itself.

    Raises:
        UsageError: no such run, or a network for other images or classes.
    """
    if isinstance(teacher, nn.Module):
        return teacher
    if teacher is None or teacher in (LARGEST, NONE):
        return None
    folder = Path(teacher)
    if not (folder / "model.pt").exists():
        raise UsageError(f"There is no finished run in {folder}; expected --teacher {LARGEST}, {NONE}, or the folder of a finished run.")
    network = load_model(folder / "model.pt")
    try:
        with torch.no_grad():
            logits = network(torch.zeros(1, *images.image_shape))
    except RuntimeError:
        logits = None
    if logits is None or logits.shape[1] != len(images.classes):
        raise UsageError(
            f"The teacher in {folder} does not take images of shape {images.image_shape} to {len(images.classes)} classes; "
            f"expected a network for the same data."
        )
    return network


def appointed(
    folder: Path, training: FinalTraining, teacher: str | nn.Module, costs: Mapping[str, Cost], device: torch.device
) -> dict[str, Any] | None:
    """Whom everything learns from that is trained after it: the network that was given, or the largest of the space, into `teacher.pt`.

    Returns:
        {"who", "accuracy"}: in words, and on the search images; None where nobody teaches.
    """
    who = "the given network" if isinstance(teacher, nn.Module) else f"the network of {teacher}"
    if teacher == LARGEST:
        size = costs["macs"]
        row = cheapest_and_dearest(training.supernet.space, size, Budget())[1]
        training.teach(folder / "teacher.pt", tuple(row.tolist()))
        who = f"the largest network of the space ({format_quantity(float(size(row[None])[0]), size.unit)} MACs)"
    if training.teacher is None:
        return None
    found = accuracy(training.teacher.to(device), training.images.search, device)
    say(f"teacher: {who}, {100 * found:.1f} % of the search images")
    return {"who": who, "accuracy": found}
