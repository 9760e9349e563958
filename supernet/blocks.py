"""The contract of blocks, the pieces of a supernet that read choices, and the plain kinds of them.

A block hands a value on to the next: a tensor, or a tuple of tensors (a cell that needs its two predecessors). What its options cost is
declared in `Part`s; where options change the shape of what is handed on, the next block's cost depends on that as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from evonas.errors import UsageError, first_line
from evonas.space import Choice
from supernet.slicing import plain

Value = Any  # a tensor (images first), or a tuple of values
Shape = tuple[Any, ...]  # (channels, height, width) of a tensor for one image, or a tuple of shapes


@dataclass(frozen=True)
class Mixture:
    """A selection of everything at once, weighted.

    Attributes:
        weights: for every choice a vector, shape (options,), by which the outputs of its options add up.
    """

    weights: Sequence[Tensor]


@dataclass(frozen=True)
class Part:
    """A piece of a network as cost tables see it.

    Attributes:
        name: of the piece.
        choices: positions of the choices that its cost depends on: of the block's `reads`, or, from `ChainSupernet.parts`, of the space.
        input_shapes: what may reach it, one shape for each state that a network can be in there; a single one in most spaces.
        make: gives its stand-alone module for one option index a choice and the keyword `input_shape`.
        following: where the state changes here: the number of the next state, shape (states, *options). Such a part costs nothing.
        ways: an edge of a cell says how many ways from what the cell reads to what it hands on lead through it, shape (n,), for the options
            of the choices `ways_of`, shape (n, choices); 0 where it is cut.
        ways_of: all choices of the cell, like `choices`.
    """

    name: str
    choices: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    make: Callable[..., nn.Module]
    following: npt.NDArray[np.int64] | None = None
    ways: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]] | None = None
    ways_of: tuple[int, ...] = ()

    @property
    def input_shape(self) -> Shape:
        """What reaches it, where that is the same in all networks."""
        return self.input_shapes[0]

    def build(self, *options: int, arriving: int = 0) -> nn.Module:
        """Its stand-alone module for one option index a choice, where a state arrives."""
        return self.make(*options, input_shape=self.input_shapes[arriving])


class Block(nn.Module):
    """A piece of a supernet. A subclass writes `active`, or `forward` and `extract`; the rest where it can do better.

    Args:
        name: short name inside the network, such as "stage0_block1".
        reads: names of the choices it reads, in the order in which it takes their options.
        shaped_by: those of them on which the shape that it hands on depends; usually none.

    Attributes:
        masked_by: those whose options `per_image` takes for every image in one pass; others split the batch.
    """

    masked_by: tuple[str, ...] = ()

    def __init__(self, name: str, reads: Sequence[str] = (), shaped_by: Sequence[str] = ()) -> None:
        super().__init__()
        self.name = name
        self.reads = tuple(reads)
        self.shaped_by = tuple(shaped_by)
        self._shapes: dict[tuple[tuple[int, ...], Shape], Shape] = {}

    def require(self, choices: Sequence[Choice]) -> None:
        """Refuse choices whose options are not what the block has; one for each of `reads`. A block that cannot say accepts all.

        Raises:
            UsageError: an option that the block lacks, or one too many, or another order.
        """

    def require_one_shape(self, choices: Sequence[Choice], input_shape: Shape) -> None:
        """Refuse options that do not take what arrives, or hand on something else than others that are not in `shaped_by`.

        Each option is run once, beside the first ones of the other choices.

        Raises:
            UsageError: there is such an option; costs and copies of the blocks after it would be those of another network.
        """
        first = [0] * len(choices)
        for position, choice in enumerate(choices):
            for option in range(len(choice.options)):
                options = [*first[:position], option, *first[position + 1 :]]
                named = ", ".join(c.options[o] for c, o in zip(choices, options, strict=True))
                made = run_once(self.extract(*options, input_shape=input_shape), self.name, named, input_shape)
                expected = self.hands_on(*options, input_shape=input_shape)
                if made != expected:
                    raise UsageError(
                        f"Option {choice.options[option]!r} of block {self.name!r} hands on {made}, and {choice.options[0]!r} hands on "
                        f"{expected}; expected one shape (padding, stride?). Where it is meant: shapes=True, or shaped_by in a Block."
                    )

    def active(self, *options: int) -> nn.Module:
        """The module that runs for these options, sharing its weights with the supernet; it may be composed anew for every call."""
        raise NotImplementedError(f"The block {type(self).__name__} has no method `active`.")

    def forward(self, x: Value, *options: int) -> Value:
        """One option a choice, for all images."""
        return self.active(*options)(x)

    def extract(self, *options: int, input_shape: Shape) -> nn.Module:
        """A copy of the module of these options that stands alone, for what reaches it."""
        return plain(self.active(*options))

    def parts(self, input_shape: Shape) -> list[Part]:
        """What the block costs, as pieces whose costs add up, for what reaches it. Choices are positions in `reads`."""
        return [Part(self.name, tuple(range(len(self.reads))), (input_shape,), self.extract)]

    def mixture(self, x: Value, *weights: Tensor) -> Value:
        """What all options give, weighted; a vector of weights a choice. Options of zero weight are not run.

        Raises:
            UsageError: the options of this block cannot be mixed.
        """
        raise UsageError(f"The options of block {self.name!r} cannot be mixed; expected a block with a method `mixture`.")

    def per_image(self, x: Value, *options: npt.NDArray[np.int64]) -> Value:
        """An option of every choice for every image: arrays of shape (images,). Images with equal options run together.

        In training mode batch norm takes the statistics of each group by itself, so that small groups are noisy ones.

        Raises:
            UsageError: images would leave the block in different shapes; or, in training, there are several processes, whose shares would
                need different numbers of joint batch statistics.
        """
        if not options:
            return self(x)
        kinds, group = np.unique(np.stack(options, axis=1), axis=0, return_inverse=True)
        shaping = [i for i, name in enumerate(self.reads) if name in self.shaped_by]
        if len(np.unique(kinds[:, shaping], axis=0)) > 1 and shaping:
            raise UsageError(f"Images with different options of block {self.name!r} leave it in different shapes; expected one for all.")
        if self.training and dist.is_initialized() and dist.get_world_size() > 1:
            raise UsageError("An architecture for every image is trained in one process; run this without torchrun.")
        rows = [np.flatnonzero(group.ravel() == kind) for kind in range(len(kinds))]
        found = [self(images_of(x, row), *kind) for row, kind in zip(rows, kinds.tolist(), strict=True)]
        return joined(found, np.argsort(np.concatenate(rows)))

    def hands_on(self, *options: int, input_shape: Shape) -> Shape:
        """The shape of what the next block gets. Found by running a copy once for every combination of options of `shaped_by`."""
        shaping = tuple(option for name, option in zip(self.reads, options, strict=True) if name in self.shaped_by)
        if (shaping, input_shape) not in self._shapes:
            module = self.extract(*options, input_shape=input_shape)
            self._shapes[shaping, input_shape] = run_once(module, self.name, ", ".join(map(str, options)), input_shape)
        return self._shapes[shaping, input_shape]


class ChoiceBlock(Block):
    """A block that reads one choice and runs the option it names.

    Args:
        name: as in `Block`.
        reads: the choice.
        options: modules by option name, in the order of the choice's options.
        shapes: whether they hand on different shapes, which the blocks after it have to take as they come: a stride that is chosen.
    """

    def __init__(self, name: str, reads: str, options: Mapping[str, nn.Module], *, shapes: bool = False) -> None:
        super().__init__(name, [reads], [reads] if shapes else [])
        self.options = registered(options)
        self._keys, self._in_order = tuple(self.options), tuple(options)

    def require(self, choices: Sequence[Choice]) -> None:
        """See `Block.require`."""
        require_options(self.name, choices[0], self._in_order)

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`."""
        return self.options[self._keys[options[0]]]

    def mixture(self, x: Value, *weights: Tensor) -> Value:
        """See `Block.mixture`."""
        return mixed(x, self.options.values(), weights[0])


class PathsBlock(Block):
    """A block that reads several choices, or whose options share weights: it has one module for every combination of options.

    Args:
        name: as in `Block`.
        reads: the choices.
        paths: modules by option indices, one index a choice; they may hold the same layers.
        shared: all layers of all paths, each once: what is trained and saved.
    """

    def __init__(self, name: str, reads: Sequence[str], paths: Mapping[tuple[int, ...], nn.Module], shared: nn.Module) -> None:
        super().__init__(name, reads)
        self.shared = shared
        self._paths = dict(paths)

    def require(self, choices: Sequence[Choice]) -> None:
        """See `Block.require`."""
        wanted = set(itertools.product(*(range(len(choice.options)) for choice in choices)))
        if wanted != set(self._paths):
            raise UsageError(
                f"Block {self.name!r} has modules for {len(self._paths)} combinations of options of {', '.join(self.reads)}; expected "
                f"{len(wanted)}, one for each, beginning with {min(wanted)}."
            )

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`."""
        return self._paths[options]

    def mixture(self, x: Value, *weights: Tensor) -> Value:
        """See `Block.mixture`: every combination is weighted by the product of its options' weights."""
        products = torch.stack([torch.stack([w[i] for w, i in zip(weights, o, strict=True)]).prod() for o in self._paths])
        return mixed(x, self._paths.values(), products)


class FixedBlock(Block):
    """A block that reads no choice: a stem, a head."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__(name)
        self.module = module

    def active(self, *options: int) -> nn.Module:
        """The module."""
        return self.module

    def mixture(self, x: Value, *weights: Tensor) -> Value:
        """There is nothing to mix."""
        return self.module(x)


def registered(options: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """The options in their order, under their names where PyTorch lets a module have that name, and numbered where it does not."""
    names = [name if name and "." not in name and not hasattr(nn.ModuleDict, name) else f"#{i}" for i, name in enumerate(options)]
    return nn.ModuleDict(dict(zip(names, options.values(), strict=True)))


def require_options(block: str, choice: Choice, offered: Sequence[str]) -> None:
    """Refuse a choice whose options are not those that a block offers for it, in their order.

    Raises:
        UsageError: they differ.
    """
    if tuple(offered) != choice.options:
        raise UsageError(
            f"Block {block!r} offers {', '.join(offered)} for the choice {choice.name!r}, whose options are "
            f"{', '.join(choice.options)}; expected the same in the same order."
        )


def run_once(module: nn.Module, block: str, options: str, input_shape: Shape) -> Shape:
    """The shape of what a module that stands alone makes of what arrives.

    Args:
        module: is moved to the CPU, and left in its mode for use.
        block, options: where it comes from, for people.
        input_shape: of what arrives.

    Raises:
        UsageError: the module does not take it.
    """
    try:
        with torch.no_grad():
            return shape_of(module.to("cpu").eval()(zeros(input_shape)))
    except RuntimeError as error:
        raise UsageError(
            f"Block {block!r}{f' with {options}' if options else ''} does not take what arrives, shape {input_shape} for an image: "
            f"{first_line(error)}. Expected it to fit what the block before hands on."
        ) from error


def mixed(x: Value, options: Iterable[nn.Module], weights: Tensor) -> Tensor:
    """The weighted sum of what modules make of `x`; those of zero weight are not run.

    Raises:
        UsageError: every weight is zero.
    """
    kept = [(weight, option) for weight, option, w in zip(weights, options, weights.tolist(), strict=True) if w != 0]
    if not kept:
        raise UsageError("All weights of a mixture are zero; expected at least one option to take part.")
    return torch.stack([weight * option(x) for weight, option in kept]).sum(0)


def zeros(shape: Shape) -> Value:
    """A value for one image that is zero everywhere."""
    return torch.zeros(1, *shape) if isinstance(shape[0], int) else tuple(map(zeros, shape))


def shape_of(value: Value) -> Shape:
    """The shape of a value for one image."""
    return tuple(value.shape[1:]) if isinstance(value, Tensor) else tuple(map(shape_of, value))


def images_of(value: Value, rows: npt.NDArray[np.int64]) -> Value:
    """Of a value of many images, those of some positions."""
    if isinstance(value, Tensor):
        return value[torch.from_numpy(rows).to(value.device)]
    return tuple(images_of(part, rows) for part in value)


def joined(values: Sequence[Value], order: npt.NDArray[np.int64]) -> Value:
    """Groups of images one after another, and then in another order."""
    if isinstance(values[0], Tensor):
        return images_of(torch.cat(list(values)), order)
    return tuple(joined(parts, order) for parts in zip(*values, strict=True))
