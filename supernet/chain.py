"""The chain family: a supernet that is a sequence of blocks, each of which reads the choices it names.

An architecture activates one *path*. `forward` runs it inside the supernet; `subnet` copies it out as a plain module.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evonas.errors import UsageError
from evonas.space import Architecture, Population, SearchSpace
from supernet.blocks import Block, Mixture, Part, Shape, Value, shape_of
from supernet.evaluation import left_as_it_was
from supernet.initialisation import initialise

Selection = Architecture | npt.NDArray[np.int64] | Mixture


class Singles(NamedTuple):
    """The members of ensembles as networks of their own.

    Attributes:
        chain: that they are paths of; it shares its modules with the supernet of ensembles.
        rows: the members, each once: shape (m, choices of the chain).
        which: positions in `rows` of the members of every ensemble: shape (n, members).
    """

    chain: ChainSupernet
    rows: Population
    which: npt.NDArray[np.int64]


class ChainSupernet(nn.Module):
    """A supernet of blocks in sequence.

    Args:
        space: all choices that blocks read; each is read by at least one block.
        blocks: from the image to the logits.
        image_shape: (channels, height, width) of an input image.
        seed: of the initial weights; None leaves those that the blocks have.

    Raises:
        UsageError: a block reads a choice that the space has not, the space has one that no block reads, the options of a block are not
            those of its choice, or two blocks have one name.
    """

    ensembles = False  # whether its networks are ensembles, whose members can be scored by themselves: see `singles`

    def __init__(self, space: SearchSpace, blocks: Sequence[Block], image_shape: tuple[int, int, int], *, seed: int | None = 0) -> None:
        super().__init__()
        self.space = space
        self.image_shape = image_shape
        self.blocks = nn.ModuleList(blocks)
        self.chain = tuple(blocks)  # the same, as what they are
        names = [block.name for block in blocks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"Two blocks have the name {twice[0]!r}; expected every name once: networks are made of blocks by name.")
        position = {name: i for i, name in enumerate(space.names)}
        if unknown := [name for block in blocks for name in block.reads if name not in position]:
            raise UsageError(f"A block reads {unknown[0]!r}, which the space has not; expected one of: {', '.join(space.names)}.")
        self.columns: tuple[tuple[int, ...], ...] = tuple(tuple(position[name] for name in block.reads) for block in blocks)
        if unread := set(range(len(space))) - {column for columns in self.columns for column in columns}:
            raise UsageError(f"No block reads the choice {space.names[min(unread)]!r}; every choice must be read by a block.")
        self._fitting: set[tuple[str, Shape]] = set()
        for block, columns in zip(self.chain, self.columns, strict=True):
            block.require([space.choices[column] for column in columns])
        if seed is not None:
            initialise(self, seed)

    @property
    def classes(self) -> int:
        """How many logits it gives; it is run once for that."""
        row, device = tuple(indices[0] for indices in self.space.allowed), next(self.parameters()).device
        with torch.no_grad(), left_as_it_was(self):
            return int(self.eval()(torch.zeros(1, *self.image_shape, device=device), row).shape[1])

    def __repr__(self) -> str:
        weights = sum(parameter.numel() for parameter in self.parameters())
        shape = "x".join(map(str, self.image_shape))
        return f"{type(self).__name__}({len(self.chain)} blocks on {shape}, {weights:,} parameters, {self.space!r})"

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """Logits of what a selection activates.

        Args:
            x: images, shape (n, channels, height, width).
            selection: one architecture (option indices, one a choice) for all images; an array of shape (n, choices), one for every image;
                or a `Mixture` of all options.

        Returns:
            Shape (n, classes).

        Raises:
            UsageError: a selection that does not fit the space or the images, or a mixture where a block's options cannot be mixed.
        """
        value: Value = x
        for block, run, options in self._runs(len(x), selection):
            try:
                value = run(value, *options)
            except RuntimeError as error:
                error.add_note(f"evonas: in block {block.name!r}, which got a value of shape {shape_of(value)} for an image")
                raise
        return cast(Tensor, value)

    def _runs(self, images: int, selection: Selection) -> list[tuple[Block, Callable[..., Value], list[Any]]]:
        """Every block with how it runs and, beside what arrives, on what."""
        chain = list(zip(self.chain, self.columns, strict=True))
        if isinstance(selection, Mixture):
            self._require_length(len(selection.weights))
            return [(block, block.mixture, [selection.weights[column] for column in columns]) for block, columns in chain]
        if isinstance(selection, np.ndarray) and selection.ndim == 2:
            self._require_length(selection.shape[1])
            if len(selection) != images:
                raise UsageError(f"Got architectures for {len(selection)} images, and {images} images; expected one for each.")
            return [(block, block.per_image, [selection[:, column] for column in columns]) for block, columns in chain]
        self._require_length(len(selection))
        return [(block, block, [int(selection[column]) for column in columns]) for block, columns in chain]

    def active(self, selection: Architecture | npt.NDArray[np.int64], start: int = 0) -> list[nn.Module]:
        """The modules of a path from a block on, one a block, sharing their weights with the supernet."""
        return [block.active(*_options(selection, reads)) for block, reads in zip(self.chain[start:], self.columns[start:], strict=True)]

    def singles(self, population: Population) -> Singles:
        """The members of which the networks of a population are ensembles: logits are the mean of theirs. Only where `ensembles` is set."""
        raise NotImplementedError(f"The networks of {type(self).__name__} are no ensembles.")

    def subnet(self, architecture: Architecture | npt.NDArray[np.int64], *, fresh_seed: int | None = None) -> nn.Sequential:
        """The path as a plain module: images in, logits out; skipped blocks are gone.

        Args:
            architecture: what to copy.
            fresh_seed: draw the weights anew, on the CPU, with this seed; None inherits the supernet's (and its batch-norm statistics,
                which belong to no path in particular: see `supernet.evaluation.recalibrate`).
        """
        row = self.space.population([architecture])[0]
        copies, shape = OrderedDict(), self.image_shape
        for block, columns in zip(self.chain, self.columns, strict=True):
            options = _options(row, columns)
            module = block.extract(*options, input_shape=shape)
            shape = block.hands_on(*options, input_shape=shape)
            if not isinstance(module, nn.Identity):
                copies[block.name] = module
        network = nn.Sequential(copies)
        if fresh_seed is not None:
            initialise(network.cpu(), fresh_seed)  # drawn on the CPU, so that a seed means the same weights everywhere
        return network

    def network(self, architecture: Architecture | npt.NDArray[np.int64], *, seed: int = 0) -> nn.Sequential:
        """See `supernet.family.Family`."""
        return self.subnet(architecture, fresh_seed=seed)

    def parts(self) -> list[Part]:
        """The pieces of all blocks with the shapes that may reach them, for tables of costs; see `evonas.tables`.

        Raises:
            UsageError: a block does not take what the one before hands on, options of a block hand on different shapes and it does not say
                so, or the last one makes no logits.
        """
        found: list[Part] = []
        states: tuple[Shape, ...] = (self.image_shape,)
        for block, columns in zip(self.chain, self.columns, strict=True):
            by_state = [block.parts(shape) for shape in states]
            for pieces in zip(*by_state, strict=True):
                choices = tuple(columns[i] for i in pieces[0].choices)
                shapes = tuple(piece.input_shape for piece in pieces)
                ways_of = tuple(columns[i] for i in pieces[0].ways_of)
                found.append(replace(pieces[0], choices=choices, input_shapes=shapes, ways_of=ways_of))
            for shape in states:
                if (block.name, shape) not in self._fitting:  # every option is run once, which nobody wants to wait for twice
                    block.require_one_shape([self.space.choices[column] for column in columns], shape)
                    self._fitting.add((block.name, shape))
            arriving, states, following = states, *self._following(block, columns, states)
            if len(arriving) > 1 or len(states) > 1:
                shaping = tuple(columns[block.reads.index(name)] for name in block.shaped_by)
                found.append(Part(f"{block.name}, shape", shaping, arriving, _nothing, following))
        if any(len(shape) != 1 for shape in states):
            raise UsageError(f"The last block, {self.chain[-1].name!r}, hands on {states[0]} for an image; expected logits, one a class.")
        return found

    def _following(self, block: Block, columns: tuple[int, ...], states: tuple[Shape, ...]) -> tuple[tuple[Shape, ...], Population]:
        """The shapes that a block may hand on, and which of them it does: shape (states, *options of the choices that shape it)."""
        sizes = [len(self.space.choices[columns[block.reads.index(name)]].options) for name in block.shaped_by]
        following = np.zeros((len(states), *sizes), dtype=np.int64)
        shapes: list[Shape] = []
        for state, shape in enumerate(states):
            for options in itertools.product(*map(range, sizes)):
                named = dict(zip(block.shaped_by, options, strict=True))
                handed = block.hands_on(*(named.get(name, 0) for name in block.reads), input_shape=shape)
                if handed not in shapes:
                    shapes.append(handed)
                following[(state, *options)] = shapes.index(handed)
        return tuple(shapes), following

    def _require_length(self, length: int) -> None:
        if length != len(self.space):
            raise UsageError(f"A selection has {len(self.space)} option indices (or vectors of weights), one a choice; got {length}.")


def _options(selection: Architecture | npt.NDArray[np.int64], columns: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(selection[column]) for column in columns)


def _nothing(*options: int, input_shape: Shape) -> nn.Module:
    return nn.Identity()
