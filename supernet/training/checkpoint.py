"""Checkpoints of training: the network, the optimiser, what the way owns, the narrowed space, and how far training came."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evonas.errors import UsageError, first_line, shortened
from evonas.space import SearchSpace
from supernet.archive import load_archive, save_archive
from supernet.training.average import AveragedWeights, weights_of
from supernet.training.way import Way

PARTS = {"network": dict, "optimizer": dict, "way": dict}


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    way: Way,
    identity: Any,
    losses: list[dict[str, float]],
    epochs: int,
    averaged: AveragedWeights | None = None,
) -> None:
    """Write the file, whole or not at all."""
    space = getattr(network, "space", None)
    content = {
        "identity": identity,
        "losses": losses,
        "epochs": epochs,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "way": dict(way.state_dict()),
        "way_name": type(way).__name__,
        "allowed": [list(indices) for indices in space.allowed] if isinstance(space, SearchSpace) else None,
        "average": None if averaged is None else averaged.state_dict(),
    }
    save_archive(path, content)


def load_checkpoint(path: Path, identity: Any) -> dict[str, Any]:
    """Read a checkpoint without unpickling anything but tensors and plain data.

    Raises:
        UsageError: it is missing, damaged, or belongs to something else than `identity`.
    """
    if not path.exists():
        raise UsageError(f"There is no checkpoint {shortened(path, 200)}; expected a file written by a training run.")
    content = load_archive(path, "Restore it, or start over with --fresh.", "the checkpoint")
    try:
        found = content["identity"]
        content["losses"] = [{"loss": loss} if isinstance(loss, float) else dict(loss) for loss in content["losses"]]
        for part, kind in PARTS.items():
            if not isinstance(content[part], kind):
                raise TypeError(f"{part} is no {kind.__name__}")
    except (LookupError, TypeError, ValueError) as error:
        raise UsageError(
            f"Cannot read the checkpoint {path}: it is none ({first_line(error)}). Expected a file written by a training run."
        ) from None
    if found != identity:
        difference = _difference(found, identity)
        raise UsageError(
            f"The checkpoint {path} belongs to another network ({difference}). Use the settings it was made with, or --fresh to start over."
        )
    return content


def resume(
    content: dict[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    way: Way,
    epochs: int,
    averaged: AveragedWeights | None = None,
) -> list[dict[str, float]]:
    """Everything back to where a checkpoint was written; returns the losses of the epochs that are done.

    Raises:
        UsageError: it has more epochs than asked for, or was written by another version of the network or another way, or with averaged
            weights where none are asked for, or without.
    """
    losses: list[dict[str, float]] = content["losses"]
    if len(losses) > epochs:
        raise UsageError(f"The checkpoint has {len(losses)} epochs, more than the {epochs} asked for. Ask for as many, or for --fresh.")
    load_weights(network, content)
    _load_way(way, content)
    try:
        optimizer.load_state_dict(content["optimizer"])
        if averaged is not None and losses:
            averaged.load_state_dict(content["average"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UsageError(
            f"The checkpoint has an optimiser or averaged weights of something else ({first_line(error)}). Start over with --fresh."
        ) from None
    return losses


def restore(network: nn.Module, way: Way, content: dict[str, Any]) -> None:
    """A trained supernet for another search: its weights, its narrowed space, and what the way has learned.

    A way that owns nothing is not compared: it has left no traces but the weights.

    Raises:
        UsageError: the checkpoint is of a network that is built otherwise, or of a way that is not this one.
    """
    load_weights(network, content, averaged=True)
    if content["way"] or way.state_dict():
        if content.get("way_name", type(way).__name__) != type(way).__name__:
            raise UsageError(
                f"The supernet was trained by {content['way_name']}, and this run asks for {type(way).__name__}; expected the same way."
            )
        _load_way(way, content)


def load_weights(network: nn.Module, content: dict[str, Any], *, averaged: bool = False) -> None:
    """The weights of a checkpoint into a network, and into its space what the checkpoint's was narrowed to.

    Args:
        averaged: take the averaged weights, where training kept an average.

    Raises:
        UsageError: they are of a network that is built otherwise.
    """
    try:
        network.load_state_dict(weights_of(content["average"]) if averaged and content.get("average") else content["network"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(
            f"The checkpoint was written by another version of this network ({_shortly(error)}). Start over with --fresh."
        ) from None
    space, allowed = getattr(network, "space", None), content.get("allowed")
    if isinstance(space, SearchSpace) and allowed is not None:
        try:
            narrowed = replace(space, allowed=tuple(tuple(int(index) for index in indices) for indices in allowed))
        except (TypeError, ValueError, OverflowError, LookupError) as error:
            raise UsageError(f"The checkpoint has a space that cannot be read ({first_line(error)}). Start over with --fresh.") from None
        set_space(network, narrowed)


def set_space(network: Any, space: SearchSpace) -> None:
    """The narrowed space in place of the network's.

    Raises:
        UsageError: it is no narrower form of it.
    """
    known = [set(indices) for indices in network.space.allowed]
    if network.space.choices != space.choices or any(
        not set(indices) <= before for indices, before in zip(space.allowed, known, strict=True)
    ):
        raise UsageError("A space was narrowed to one that is not part of it; expected the same choices with fewer of the allowed options.")
    network.space = space


def _load_way(way: Way, content: dict[str, Any]) -> None:
    state = content["way"]
    if {"decks", "left"} & set(state):  # as ways without parameters were saved before
        state = {"_extra_state": state}
    try:
        way.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"The checkpoint was written by another way of training, or another version of it ({_shortly(error)}). Start over with --fresh."
        ) from None


def _difference(found: Any, expected: Any) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in {**expected, **found}:
            if found.get(key) != expected.get(key):
                return f"{key}: {str(found.get(key))[:60]}, expected {str(expected.get(key))[:60]}"
    return f"{str(found)[:60]}, expected {str(expected)[:60]}"


def _shortly(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
