"""The supernet of a given network: a chain of one block that reads all choices."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evonas.errors import UsageError, first_line
from evonas.space import IDLE, Architecture, Choice, Population, SearchSpace
from supernet.blocks import Block, Part, Shape
from supernet.chain import ChainSupernet
from supernet.given.anatomy import SHARES, Anatomy, examine
from supernet.given.cutting import Cut, Path, cut_out
from supernet.initialisation import initialise

WIDTHS = tuple(f"{share:g}" for share in SHARES)
SKIP, KEPT = "skip", "kept"
assert SKIP in IDLE


class GivenBlock(Block):
    """A whole network as one block.

    Args:
        body: the network.
        anatomy: of it.
        choices: of the space, in the order of groups, kernels and blocks.
    """

    def __init__(self, body: nn.Module, anatomy: Anatomy, choices: Sequence[Choice]) -> None:
        super().__init__("network", [choice.name for choice in choices])
        self.body, self.anatomy = body, anatomy
        self._picked: dict[object, object] = {}

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`."""
        return Path(self.body, self.anatomy, cut_of(self.anatomy, options), self._picked)

    def extract(self, *options: int, input_shape: Shape) -> nn.Module:
        """See `Block.extract`."""
        return cut_out(self.body, self.anatomy, cut_of(self.anatomy, options))


class GivenSupernet(ChainSupernet):
    """A given network and all narrower ones inside of it. Its weights are those of the network, which is copied.

    Args:
        network: images in, logits out.
        image_shape: (channels, height, width).

    Raises:
        UsageError: the network does not run on such images, gives no logits, or nothing of it can be chosen.
    """

    def __init__(self, network: nn.Module, image_shape: tuple[int, int, int]) -> None:
        body = copy.deepcopy(network).cpu().eval()
        try:
            anatomy = without_failing(body, examine(body, image_shape), image_shape)
        except Exception as error:
            raise UsageError(
                f"The network does not take an image of the shape {image_shape}: {first_line(error)}. "
                f"Expected one that gives logits for it (channels, size?)."
            ) from error
        choices = choices_of(anatomy)
        if not choices:
            raise UsageError(f"Nothing of the network can be chosen: {told_left(anatomy)}. Expected channels that can be followed.")
        space = SearchSpace(choices, canonicalise=_Canonical(anatomy))
        super().__init__(space, [GivenBlock(body, anatomy, choices)], image_shape, seed=None)

    @property
    def body(self) -> nn.Module:
        """The given network."""
        block = self.chain[0]
        assert isinstance(block, GivenBlock)
        return block.body

    @property
    def anatomy(self) -> Anatomy:
        """What can be chosen of it."""
        block = self.chain[0]
        assert isinstance(block, GivenBlock)
        return block.anatomy

    @property
    def largest(self) -> Architecture:
        """The given network itself."""
        return tuple(len(choice.options) - 1 for choice in self.space.choices)

    @property
    def smallest(self) -> Architecture:
        """All that can be left out is left out."""
        return tuple(self.space.canonical(np.zeros((1, len(self.space)), dtype=np.int64))[0].tolist())

    def subnet(self, architecture: Architecture | npt.NDArray[np.int64], *, fresh_seed: int | None = None) -> nn.Sequential:
        """See `ChainSupernet.subnet`: the given network's modules with other sizes, as the only layer of a sequence."""
        row = self.space.population([architecture])[0]
        network = nn.Sequential(self.chain[0].extract(*row.tolist(), input_shape=self.image_shape))
        if fresh_seed is not None:
            initialise(network.cpu(), fresh_seed)
        return network

    def parts(self) -> list[Part]:
        """A network in one piece has no parts whose costs add up; `supernet.given.sizes` counts it."""
        return []


class _Canonical:
    """Equal networks have one row: of options that keep the same number of channels the largest, and in blocks that are left out too."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._largest = []  # by column, the canonical option of every option
        for group in anatomy.groups:
            kept = np.array(group.kept)
            self._largest.append(np.array([np.flatnonzero(kept == count)[-1] for count in kept]))
        inside = {name: column for column, name in enumerate([*(g.name for g in anatomy.groups), *anatomy.kernels])}
        first = len(anatomy.groups) + len(anatomy.kernels)
        self._inner = []
        for i, block in enumerate(anatomy.optional):
            columns = [column for name, column in inside.items() if name.startswith(f"{block}.") and _only_inside(anatomy, column, block)]
            self._inner.append((first + i, np.array(columns, dtype=np.int64)))
        self._ends = [len(group.kept) - 1 for group in anatomy.groups] + [len(sizes) - 1 for sizes in anatomy.kernels.values()]

    def __call__(self, population: Population) -> Population:
        found = np.array(population, copy=True)
        for column, largest in enumerate(self._largest):
            found[:, column] = largest[found[:, column]]
        for block, columns in self._inner:
            if len(columns):
                gone = found[:, block] == 0
                found[np.ix_(gone, columns)] = np.array(self._ends)[columns]
        return found


def _only_inside(anatomy: Anatomy, column: int, block: str) -> bool:
    """Whether nothing outside of a block belongs to a group of channels."""
    if column >= len(anatomy.groups):
        return True
    return all(name.startswith(f"{block}.") for (name, _), owner in anatomy.owners.items() if (owner.group == column).any())


def choices_of(anatomy: Anatomy) -> tuple[Choice, ...]:
    """The choices of a network: widths as shares of what it has, kernels, blocks; the smallest option first."""
    return (
        *(Choice(f"{group.name}.width", WIDTHS) for group in anatomy.groups),
        *(Choice(f"{name}.kernel", tuple(map(str, sizes))) for name, sizes in anatomy.kernels.items()),
        *(Choice(f"{name}.block", (SKIP, KEPT)) for name in anatomy.optional),
    )


def cut_of(anatomy: Anatomy, options: Sequence[int]) -> Cut:
    """What an architecture keeps."""
    groups, kernels = len(anatomy.groups), len(anatomy.kernels)
    counts = tuple(group.kept[option] for group, option in zip(anatomy.groups, options, strict=False))
    sizes = {name: sizes[option] for (name, sizes), option in zip(anatomy.kernels.items(), options[groups:], strict=False)}
    without = [name for name, option in zip(anatomy.optional, options[groups + kernels :], strict=True) if option == 0]
    return Cut(counts, sizes, frozenset(without))


def without_failing(body: nn.Module, anatomy: Anatomy, image_shape: tuple[int, ...]) -> Anatomy:
    """The anatomy without choices with which the network does not run: its source has sizes in it that nobody can follow."""
    image, whole = torch.zeros(1, *image_shape), [len(choice.options) - 1 for choice in choices_of(anatomy)]
    failing = set()
    for column, choice in enumerate(choices_of(anatomy)):
        row = [*whole[:column], 0, *whole[column + 1 :]]
        try:
            with torch.no_grad():
                Path(body.eval(), anatomy, cut_of(anatomy, row), {})(image)
        except Exception:
            failing.add(choice.name)
    return anatomy.without(failing) if failing else anatomy


def told_left(anatomy: Anatomy) -> str:
    """What could not be followed, for people."""
    left = [f"{name} ({count})" for name, count in anatomy.left.items() if name != "logits"]
    return f"channels are kept whole because of {', '.join(left)}" if left else "all layers are narrow"
