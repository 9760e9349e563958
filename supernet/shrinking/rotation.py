"""How far training has turned the weights of a path: a score of architectures that needs no label and no image.

Hu et al., "Angle-based Search Space Shrinking for Neural Architecture Search", 2020, arXiv 2004.13431. The weights of a path's convolutions
and of its classifier, one after another, are a vector; the angle between what it was when training began and what it is now is larger for
better architectures. In a cell an operator counts as often as ways lead through it, pooling counts as a filter of equal entries that never
turns, skip connections and whatever lies on no way count nothing.

The cosine is a quotient of sums over operators, so that three tables in float64 give the angle of any architecture exactly: a million in
seconds, where the released code joins vectors for each of them.

Departures: what every path has is left out (`fixed`). It is trained in every step and turns further than any option, so that after a short
training the paths with most weights of their own turn least: tau of the angle with the truth of NAS-Bench-201 is -.45 with it and .32
without (docs/evidence/abs.md). Batch norm and biases are left out in all spaces (the code does so in some of them), and ways end at every
node that a cell hands on.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from evonas.space import Population
from evonas.tables import AdditiveCost, tabulate
from supernet.blocks import Part, Shape
from supernet.chain import ChainSupernet

Floats = npt.NDArray[np.float64]
POOLS = (nn.AvgPool2d, nn.MaxPool2d)
SUMS = ("dot", "then", "now", "entries")


def weights_now(supernet: ChainSupernet) -> dict[str, Tensor]:
    """A copy of the weights that angles are measured from."""
    return {name: value.detach().cpu().clone() for name, value in supernet.state_dict().items()}


class Rotation:
    """The angles of a supernet's paths: a fitness, and, as a cost, a cheap score for `evonas.fusion.FusedFitness`.

    Args:
        supernet: as it is now.
        anchor: its weights when training began, see `weights_now`.
        fixed: count what every path has (stem, classifier, reductions) as well, as the paper does.
    """

    unit = "rad"

    def __init__(self, supernet: ChainSupernet, anchor: Mapping[str, Tensor], *, fixed: bool = False) -> None:
        self.space = supernet.space
        now = copy.deepcopy(supernet).cpu()
        then = copy.deepcopy(now)
        then.load_state_dict(anchor)
        pairs = zip(then.parts(), now.parts(), strict=True)
        parts = [_compared(before, after) for before, after in pairs if fixed or after.choices or after.following is not None]
        self._plain = self._tables([part for part in parts if part.ways is None])
        self._edges = [(part, self._tables([part])) for part in parts if part.ways is not None]

    def _tables(self, parts: list[Part]) -> dict[str, AdditiveCost]:
        return {name: tabulate(self.space, parts, lambda found, _, i=i: found.sums[i]) for i, name in enumerate(SUMS)}  # type: ignore[misc]

    def __call__(self, population: Population) -> Floats:
        """The angle of every path in radians, 0 to pi: shape (n,)."""
        sums = self._of(population, ("dot", "then", "now"))
        norms = np.sqrt(sums["then"] * sums["now"])
        return np.arccos(np.clip(np.divide(sums["dot"], norms, out=np.ones_like(norms), where=norms > 0), -1, 1))

    def magnitude(self, population: Population) -> Floats:
        """The length of the vector of weights as they are now, a control of what the angle says: shape (n,)."""
        return np.asarray(np.sqrt(self._of(population, ("now",))["now"]))

    def entries(self, population: Population) -> Floats:
        """How many weights the vector has, the other control: shape (n,)."""
        return self._of(population, ("entries",))["entries"]

    def _of(self, population: Population, names: tuple[str, ...]) -> dict[str, Floats]:
        sums = {name: self._plain[name](population) for name in names}
        for part, tables in self._edges:
            assert part.ways is not None
            ways = part.ways(population[:, list(part.ways_of)])
            for name in names:
                sums[name] = sums[name] + ways * tables[name](population)
        return sums


class _Compared(nn.Module):
    """The sums of a module, beside what it was when training began."""

    def __init__(self, then: nn.Module, now: nn.Module, pools: int) -> None:
        super().__init__()
        sums = np.zeros(len(SUMS))
        for before, after in zip(then.modules(), now.modules(), strict=True):
            if isinstance(after, nn.Conv2d | nn.Linear):
                assert isinstance(before, nn.Conv2d | nn.Linear)
                one, other = before.weight.detach().double(), after.weight.detach().double()
                sums += [float((one * other).sum()), float(one.square().sum()), float(other.square().sum()), other.numel()]
            elif pools and isinstance(after, POOLS):
                entries = after.kernel_size**2 if isinstance(after.kernel_size, int) else math.prod(after.kernel_size)
                sums += [
                    pools / entries,
                    pools / entries,
                    pools / entries,
                    pools * entries,
                ]
        self.sums = tuple(sums.tolist())


def _compared(then: Part, now: Part) -> Part:
    """A part whose modules are sums; each is made once."""

    @functools.cache
    def make(*options: int, input_shape: Shape) -> nn.Module:
        channels = 0 if now.ways is None else int(input_shape[0])
        return _Compared(then.make(*options, input_shape=input_shape), now.make(*options, input_shape=input_shape), channels)

    return replace(now, make=make)
