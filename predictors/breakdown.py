"""Where the multiply-accumulates, the weights and the time of a network go, piece by piece.

A piece is what a network is made of at its top: the stem, a block, the head. Of a sequence that is mostly made of modules with parts of
their own (a stage of blocks), its members are the pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evonas.tables import Shape
from predictors.costs import count_macs, count_params
from predictors.devices.runtime import Backend, measure_all, time_onnx

Piece = dict[str, Any]

REST = "everything else"


def pieces(network: nn.Module, image_shape: Shape) -> list[Piece]:
    """What a network is made of, in the order in which it runs.

    Args:
        network: left as it is.
        image_shape: (channels, height, width).

    Returns:
        {"name", "output", "macs", "params"} of each: its name in the network, the shape of its output without the batch (None where that
        is no tensor), multiply-accumulates of one image, and parameters, of which a piece that runs again has none. What cannot be looked
        at by itself (it takes several tensors), and what runs outside of all pieces, is the last: `everything else`.
    """
    found: list[Piece] = []
    seen: set[nn.Module] = set()
    for name, module, read, output in _ran(network, image_shape):
        if read is not None:
            params = 0.0 if module in seen else count_params(module, read)
            found.append({"name": name, "output": output, "macs": count_macs(module, read), "params": params})
            seen.add(module)
    whole = {"macs": count_macs(network, image_shape), "params": count_params(network, image_shape)}
    rest = {cost: value - sum(piece[cost] for piece in found) for cost, value in whole.items()}
    return [*found, {"name": REST, "output": None, **rest}] if any(rest.values()) else found


def times(network: nn.Module, image_shape: Shape, backend: Backend = time_onnx) -> dict[str, float]:
    """Milliseconds of every piece run by itself, by its name; those that read several tensors are left out.

    A piece alone pays for its own start and reads its input cold, so that the sum is more than the network takes: shares are what counts.
    """
    found = [(name, module, read) for name, module, read, output in _ran(network, image_shape) if output is not None and _is_one(read)]
    return dict(zip([name for name, _, _ in found], measure_all([(module, read) for _, module, read in found], backend), strict=True))


def _ran(network: nn.Module, image_shape: Shape) -> list[tuple[str, nn.Module, Any, list[int] | None]]:
    """(name, module, shape of what it reads, shape of its output) of every piece that ran, by one image."""
    calls: list[tuple[str, nn.Module, Any, list[int] | None]] = []
    names = {module: name for name, module in _top(network)}

    def look(module: nn.Module, read: tuple[Any, ...], output: Any) -> None:
        given = [int(size) for size in output.shape[1:]] if isinstance(output, Tensor) else None
        calls.append((names[module], module, _shape(read[0]) if len(read) == 1 else None, given))

    hooks = [module.register_forward_hook(look) for module in names]
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():
            device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
            network.eval()(torch.zeros(1, *image_shape, device=device))
    finally:
        for module, training in modes.items():  # one by one: norms may be frozen
            module.training = training
        for hook in hooks:
            hook.remove()
    return calls


def _top(network: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    while isinstance(network, nn.Sequential) and len(network) == 1:  # around a given network
        network = network[0]
    found: list[tuple[str, nn.Module]] = []
    for name, module in network.named_children():
        children: Sequence[nn.Module] = list(module.children())
        nested = sum(bool(list(child.children())) for child in children)
        if isinstance(module, nn.Sequential) and nested > 1 and 2 * nested > len(children):
            found += _top(module, f"{prefix}{name}.")
        elif next(module.parameters(), None) is not None:
            found.append((prefix + name, module))
    return found


def _shape(read: Any) -> Any:
    """(channels, ...) of a tensor, a tuple of shapes of several; None of anything else."""
    if isinstance(read, Tensor):
        return tuple(int(size) for size in read.shape[1:])
    shapes = tuple(map(_shape, read)) if isinstance(read, tuple | list) else (None,)
    return None if None in shapes else shapes


def _is_one(read: Any) -> bool:
    return read is not None and all(isinstance(size, int) for size in read)
