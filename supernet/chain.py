"""The chain family: a supernet that is a sequence of blocks, each of which reads the choices it names.

An architecture activates one *path*. `forward` runs it inside the supernet; `subnet` copies it out as a plain module.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from evonas.errors import UsageError
from evonas.space import Architecture, SearchSpace
from supernet.blocks import initialise

Block = nn.Module  # with name, reads, active(*options) and extract(*options): see supernet.blocks.ChoiceBlock


@dataclass(frozen=True)
class Part:
    """A block as cost tables see it.

    Attributes:
        name: of the block.
        choices: positions in the space of the choices that its cost depends on.
        input_shape: (channels, height, width) that reaches it.
        build: gives its stand-alone module for one option index a choice.
    """

    name: str
    choices: tuple[int, ...]
    input_shape: tuple[int, ...]
    build: Callable[..., nn.Module]


class ChainSupernet(nn.Module):
    """A supernet of blocks in sequence.

    Args:
        space: all choices that blocks read; each is read by at least one block.
        blocks: from the image to the logits.
        image_shape: (channels, height, width) of an input image.
        seed: of the initial weights.
    """

    def __init__(self, space: SearchSpace, blocks: Sequence[Block], image_shape: tuple[int, int, int], *, seed: int = 0) -> None:
        super().__init__()
        self.space = space
        self.image_shape = image_shape
        self.blocks = nn.ModuleList(blocks)
        position = {name: i for i, name in enumerate(space.names)}
        self.columns: tuple[tuple[int, ...], ...] = tuple(tuple(position[name] for name in block.reads) for block in blocks)  # type: ignore[union-attr]
        if unread := set(range(len(space))) - {column for columns in self.columns for column in columns}:
            raise UsageError(f"No block reads the choice {space.names[min(unread)]!r}; every choice must be read by a block.")
        initialise(self, seed)

    def forward(self, x: Tensor, selection: Architecture | np.ndarray | Sequence[Tensor]) -> Tensor:
        """Logits of one path, or of a mixture of all.

        Args:
            x: images, shape (n, channels, height, width).
            selection: one architecture, an option index for every choice; or for every choice a vector of weights, shape (options,), by
                which the outputs of its options add up. All images take the same.

        Returns:
            Shape (n, classes).

        Raises:
            UsageError: a selection of another length, or a mixture where a block's options cannot be mixed.
        """
        if len(selection) != len(self.space):
            raise UsageError(
                f"A selection has {len(self.space)} option indices (or vectors of weights), one a choice; got {len(selection)}."
            )
        if isinstance(selection[0], Tensor):
            return self._mixture(x, selection)  # type: ignore[arg-type]
        for block, columns in zip(self.blocks, self.columns, strict=True):
            x = block(x, *(int(selection[column]) for column in columns))
        return x

    def _mixture(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        for block, columns in zip(self.blocks, self.columns, strict=True):
            if not hasattr(block, "mixture"):
                raise UsageError(f"The options of block {block.name!r} cannot be mixed; expected a block with a method `mixture`.")
            x = block.mixture(x, *(weights[column] for column in columns))  # type: ignore[operator]
        return x

    def active(self, selection: Architecture | np.ndarray) -> list[nn.Module]:
        """The modules of a path, one a block, sharing their weights with the supernet."""
        pairs = zip(self.blocks, self.columns, strict=True)
        return [block.active(*(int(selection[column]) for column in columns)) for block, columns in pairs]  # type: ignore[operator]

    def subnet(self, architecture: Architecture | np.ndarray, *, fresh_seed: int | None = None) -> nn.Sequential:
        """The path as a plain module: images in, logits out; skipped blocks are gone.

        Args:
            architecture: what to copy.
            fresh_seed: draw the weights anew, on the CPU, with this seed; None inherits the supernet's (and its batch-norm statistics,
                which belong to no path in particular: see `supernet.fitness.recalibrate`).
        """
        row = self.space.population([architecture])[0]
        copies = OrderedDict()
        for block, columns in zip(self.blocks, self.columns, strict=True):
            module = block.extract(*(int(row[column]) for column in columns))  # type: ignore[operator]
            if not isinstance(module, nn.Identity):
                copies[str(block.name)] = module
        network = nn.Sequential(copies)
        if fresh_seed is not None:
            initialise(network.cpu(), fresh_seed)  # drawn on the CPU, so that a seed means the same weights everywhere
        return network

    def parts(self) -> list[Part]:
        """The blocks with the shapes that reach them, for tables of costs."""
        parts, x = [], torch.zeros(1, *self.image_shape)
        with torch.no_grad():
            for block, columns in zip(self.blocks, self.columns, strict=True):
                parts.append(Part(str(block.name), columns, tuple(x.shape[1:]), block.extract))  # type: ignore[arg-type]
                first = block.extract(*(0 for _ in columns)).to("cpu").eval()  # type: ignore[operator]
                x = first(x)
        return parts
