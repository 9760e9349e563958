"""The cell space of PNAS: blocks (input, input, operation, operation), each equal cell once.

Liu et al., "Progressive Neural Architecture Search", 2017, arXiv 1712.00559. A cell is a list of up to five blocks; a block adds what two
operations make of two inputs, and an input is the cell before (-1), the one before that (-2), or an earlier block.

Two cells are equal when one becomes the other by swapping the halves of blocks and by reordering blocks with their references. The
canonical cell orders its blocks by how deep they refer and then by a code of what they compute; the paper is silent on whether its
loop removes equal cells beyond the first block, and this does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError
from evonas.space import Choice, Population, SearchSpace

OPERATIONS = ("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "conv_1x7_7x1", "identity", "avg_pool_3x3", "max_pool_3x3", "dil_conv_3x3")
OUTER_INPUTS = ("-2", "-1")

Codes = npt.NDArray[np.uint64]


def cell_space(blocks: int = 5, operations: tuple[str, ...] = OPERATIONS) -> SearchSpace:
    """Cells of 1 to `blocks` blocks.

    The first choice is the number of blocks; then come input1, input2, op1, op2 of every block. Blocks beyond the number read
    their first options.
    """
    choices = [Choice("blocks", tuple(str(b) for b in range(1, blocks + 1)))]
    for b in range(1, blocks + 1):
        inputs = (*OUTER_INPUTS, *(f"block{earlier}" for earlier in range(1, b)))
        choices += [Choice(f"block{b}.{name}", inputs) for name in ("input1", "input2")]
        choices += [Choice(f"block{b}.{name}", operations) for name in ("op1", "op2")]
    return SearchSpace(tuple(choices), canonicalise=canonical_cells)


def cell_sizes(population: Population) -> npt.NDArray[np.int64]:
    """The number of blocks of every cell: shape (n,)."""
    return population[:, 0] + 1


def cell_blocks(population: Population) -> Population:
    """Shape (n, most blocks, 4): input1, input2, op1, op2."""
    return population[:, 1:].reshape(len(population), (population.shape[1] - 1) // 4, 4)


def canonical_cells(population: Population) -> Population:
    """The representative of every cell; see the module."""
    blocks = cell_blocks(population)
    rows = np.arange(len(population))[:, None]
    count = blocks.shape[1]
    absent = np.arange(count) >= cell_sizes(population)[:, None]
    codes, depth = _codes(blocks)
    codes, depth = np.where(absent, np.iinfo(np.uint64).max, codes), np.where(absent, count + 1, depth)

    order = np.lexsort((codes, depth), axis=-1)
    ordered = codes[rows, order]
    starts = np.concatenate([np.ones((len(blocks), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    first = np.maximum.accumulate(np.where(starts, np.arange(count), 0), axis=1)
    place = np.empty_like(order)
    place[rows, order] = first  # references to a block that is there twice go to the first

    outer = len(OUTER_INPUTS)
    flat = blocks[..., :2].reshape(len(blocks), 2 * count)
    renamed = np.where(flat < outer, flat, place[rows, np.maximum(flat - outer, 0)] + outer).reshape(len(blocks), count, 2)
    halves = np.stack([renamed, blocks[..., 2:]], axis=-1)[rows, order]
    swap = _half_rank(halves[..., 0, :]) > _half_rank(halves[..., 1, :])
    halves = np.where(swap[..., None, None], halves[..., ::-1, :], halves)
    renewed = np.moveaxis(halves, -1, -2).reshape(len(blocks), count, 4)
    renewed = np.where(absent[..., None], 0, renewed)  # absent blocks were ordered last, where they already stood
    return np.concatenate([population[:, :1], renewed.reshape(len(blocks), 4 * count)], axis=1)


def every_block(number: int, operations: int) -> Population:
    """All blocks that a cell may have as its block `number` (from 1), halves in order.

    Shape (h (h + 1) / 2, 4), where h = operations * (number + 1).
    """
    halves = np.stack(np.meshgrid(np.arange(number + 1), np.arange(operations), indexing="ij"), axis=-1).reshape(-1, 2)
    first, second = np.triu_indices(len(halves))
    return np.stack([halves[first, 0], halves[second, 0], halves[first, 1], halves[second, 1]], axis=1)


def _codes(blocks: Population) -> tuple[Codes, npt.NDArray[np.int64]]:
    """A code of what every block computes, equal for equal blocks, and how deep it refers: both of shape (n, blocks)."""
    rows = np.arange(len(blocks))
    outer = len(OUTER_INPUTS)
    codes = np.zeros((len(blocks), outer + blocks.shape[1]), dtype=np.uint64)
    codes[:, :outer] = np.arange(1, outer + 1)
    depth = np.zeros(codes.shape, dtype=np.int64)
    for b in range(blocks.shape[1]):
        first, second, op1, op2 = blocks[:, b].T
        halves = np.sort(np.stack([_mix(codes[rows, first], op1), _mix(codes[rows, second], op2)]), axis=0)
        codes[:, outer + b] = _mix(halves[0], halves[1])
        depth[:, outer + b] = 1 + np.maximum(depth[rows, first], depth[rows, second])
    return codes[:, outer:], depth[:, outer:]


def _half_rank(halves: Population) -> npt.NDArray[np.int64]:
    return np.asarray(halves[..., 0] * (1 << 20) + halves[..., 1])


def _mix(a: Codes, b: npt.NDArray[np.integer]) -> Codes:
    """A 64-bit hash of two numbers (the finaliser of splitmix64); it wraps on purpose."""
    with np.errstate(over="ignore"):
        x = a * np.uint64(0x9E3779B97F4A7C15) + b.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


class CellGrowth:
    """One more block at every level, in the space of `evonas.cells.cell_space`."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.levels = (len(space) - 1) // 4
        if space.names[0] != "blocks":
            raise UsageError(f"CellGrowth grows the space of evonas.cells.cell_space; this one begins with {space.names[0]!r}.")
        self.operations = len(space.choices[3].options)

    def first(self) -> Population:
        """All cells of one block: 136 of them with eight operations."""
        return self.children(np.zeros((1, len(self.space)), dtype=np.int64), 1)

    def children(self, parents: Population, level: int) -> Population:
        """Every parent with every block that it may have next."""
        blocks = every_block(level, self.operations)
        rows = np.repeat(parents, len(blocks), axis=0)
        rows[:, 0] = level - 1
        rows[:, 1 + 4 * (level - 1) : 1 + 4 * level] = np.tile(blocks, (len(parents), 1))
        return rows

    def members(self, population: Population, level: int) -> npt.NDArray[np.bool_]:
        """Cells of exactly `level` blocks."""
        return cell_sizes(population) == level
