"""Training into a file, with a bar: what every movement that trains does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from evonas.files import write_json
from recipes.runner.progress import bar
from supernet import train
from supernet.data import Part
from supernet.training.way import Way

LOSSES = ".losses.json"


def train_into(path: Path, what: str, network: nn.Module, way: Way, part: Part, *, identity: Any, **settings: Any) -> None:
    """Train a network in place, or go on where `path` stands; its losses by epoch are kept beside it.

    Args:
        path: the checkpoint.
        what: is trained, for people.
        network, way, part, identity, settings: of `supernet.train`.
    """
    with bar(what) as update:
        losses = train(
            network,
            way,
            part,
            checkpoint=path,
            identity=identity,
            on_progress=lambda share, found: update(share, in_words(found)),
            **settings,
        )
    write_json(path.with_suffix(LOSSES), losses)


def in_words(losses: Mapping[str, float]) -> str:
    """The loss and, in brackets, its parts where a way names them."""
    parts = ", ".join(f"{name} {value:.3f}" for name, value in losses.items() if name != "loss")
    return f"loss {losses['loss']:.3f}" + (f" ({parts})" if parts else "")
