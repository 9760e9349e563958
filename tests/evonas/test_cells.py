"""The cell space of PNAS against the paper's counts and against a recursive key of what a cell computes."""

import numpy as np
import pytest

from evonas import CellGrowth
from evonas.cells import cell_blocks, cell_sizes, cell_space, every_block


def key(cell: np.ndarray) -> tuple:
    """The sorted encodings of the blocks, references replaced by what they refer to: the definition, one cell at a time."""
    blocks: list = []
    for first, second, op1, op2 in cell_blocks(cell[None])[0][: cell_sizes(cell[None])[0]]:
        source = ["-2", "-1", *blocks]
        blocks.append(str(sorted([(str(source[first]), int(op1)), (str(source[second]), int(op2))])))
    return tuple(sorted(blocks))


def shuffled(cell: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An equal cell: blocks in another order that keeps references backwards, halves swapped at random."""
    size = cell_sizes(cell[None])[0]
    blocks = cell_blocks(cell[None])[0]
    order: list[int] = []
    while len(order) < size:
        ready = [b for b in range(size) if b not in order and all(i < 2 or i - 2 in order for i in blocks[b, :2])]
        order.append(int(rng.choice(ready)))
    place = {old: new for new, old in enumerate(order)}
    result = np.zeros_like(cell)
    result[0] = cell[0]
    for new, old in enumerate(order):
        first, second, op1, op2 = (int(v) for v in blocks[old])
        first, second = (i if i < 2 else place[i - 2] + 2 for i in (first, second))
        block = (second, first, op2, op1) if rng.random() < 0.5 else (first, second, op1, op2)
        result[1 + 4 * new : 5 + 4 * new] = block
    return result


@pytest.mark.parametrize(("number", "unordered"), [(1, 136), (2, 300), (3, 528), (4, 820), (5, 1176)])
def test_unordered_blocks(number, unordered):
    assert len(every_block(number, 8)) == unordered


def test_two_block_cells_without_equal_ones():
    space = cell_space()
    growth = CellGrowth(space)
    first = space.canonical(growth.first())
    assert len(np.unique(first, axis=0)) == 136
    children = growth.children(first, 2)
    assert len(children) == 40_800
    assert len(np.unique(space.canonical(children), axis=0)) == 31_620


def test_canonical_cells_are_equal_exactly_when_their_keys_are(rng):
    space = cell_space(blocks=3, operations=("a", "b"))  # small, so that equal cells meet
    cells = np.concatenate([space.sample(1500, rng), space.sample(100, rng)])
    keys, canonical = [key(cell) for cell in cells], space.keys(cells)
    assert len(set(keys)) == len(set(canonical)) == len(set(zip(keys, canonical, strict=True)))
    assert len(set(keys)) < 1500


def test_canonical_cells_do_not_depend_on_order(rng):
    space = cell_space()
    cells = space.sample(300, rng)
    others = np.array([shuffled(cell, rng) for cell in cells])
    assert (others != cells).any()
    np.testing.assert_array_equal(space.canonical(others), cells)
    assert space.contains(cells).all()
