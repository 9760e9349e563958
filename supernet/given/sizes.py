"""What every path of a given network costs, as sums of tables: multiply-accumulates, parameters, and whatever is measured of its layers.

The size of a weight is a product of how many positions of its dimensions are kept, and each of these is a sum over the groups of channels
that own it. Multiplied out, a layer is a sum of tables over one or two widths, its kernel, and whether its block is there, so that the
costs of a million networks are look-ups, exact ones, also where a layer reads a concatenation of many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from torch import nn

from evonas.tables import AdditiveCost, CostTable
from supernet.given.anatomy import SHARES, Anatomy, Owner
from supernet.given.channels import Use
from supernet.given.cutting import centred_padding
from supernet.given.supernet import GivenSupernet

Floats = npt.NDArray[np.float64]
LEAST = 0.01  # of what a layer takes by itself: all but what any run takes


@dataclass(frozen=True)
class Term:
    """A factor times the kept positions of some dimensions.

    Attributes:
        factor: for every kernel of the layer's convolution, a single one where that is not chosen; shape (kernels,).
        dimensions: (name, dimension) of the parameters whose kept positions are multiplied; at most two.
    """

    factor: Floats
    dimensions: tuple[tuple[str, int], ...]


def params(supernet: GivenSupernet) -> AdditiveCost:
    """Parameters of every path."""
    anatomy = supernet.anatomy
    terms: list[tuple[str, Term]] = []
    for name, parameter in supernet.body.named_parameters():
        layer = name.rpartition(".")[0]
        terms.append((layer, _size(anatomy, name, tuple(parameter.shape), 1.0)))
    return additive(supernet, terms, 0.0)


def macs(supernet: GivenSupernet, counted: float) -> AdditiveCost:
    """Multiply-accumulates of every path.

    Args:
        supernet: of the given network.
        counted: of the given network itself; what none of its layers with weights has is in every path.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in supernet.body.named_parameters()}
    terms = [(use.layer, _size(supernet.anatomy, use.weight, shapes[use.weight], float(use.positions))) for use in supernet.anatomy.uses]
    in_layers = sum(use.positions * float(np.prod(shapes[use.weight])) for use in supernet.anatomy.uses)
    return additive(supernet, terms, counted - in_layers)


def _size(anatomy: Anatomy, name: str, shape: tuple[int, ...], times: float) -> Term:
    """The size of a parameter, some times."""
    owned = tuple((name, dimension) for dimension in range(len(shape)) if (name, dimension) in anatomy.owners)
    rest = times * float(np.prod([size for dimension, size in enumerate(shape) if (name, dimension) not in owned]))
    sizes = anatomy.kernels.get(name.rpartition(".")[0]) if name.endswith(".weight") else None
    factor = np.array([rest]) if sizes is None else rest * (np.array(sizes) / sizes[-1]) ** 2
    return Term(factor, owned)


def additive(supernet: GivenSupernet, terms: Iterable[tuple[str, Term]], constant: float, unit: str = "") -> AdditiveCost:
    """The sum of terms as a cost.

    Args:
        supernet: of the given network.
        terms: each with the name of the layer that it belongs to, which decides kernel and block.
        constant: that every path has.
        unit: of the sum.
    """
    anatomy = supernet.anatomy
    kept = {key: _by_group(owner, anatomy) for key, owner in anatomy.owners.items()}
    kernel_column = {name: len(anatomy.groups) + i for i, name in enumerate(anatomy.kernels)}
    block_column = {name: len(anatomy.groups) + len(anatomy.kernels) + i for i, name in enumerate(anatomy.optional)}
    sums: dict[tuple[int, ...], Floats] = {}
    for layer, term in terms:
        more = [kernel_column[layer]] if len(term.factor) > 1 else []
        more += [column for name, column in block_column.items() if f"{layer}.".startswith(f"{name}.")][:1]
        for widths, values in _product([kept[key] for key in term.dimensions]):
            table = _outer(values, term.factor) if len(term.factor) > 1 else values * term.factor[0]
            if len(more) > (len(term.factor) > 1):  # a block that is left out has nothing
                table = np.stack([np.zeros_like(table), table], axis=-1)
            _add(sums, (*widths, *more), table)
    constant += float(sums.pop((), np.zeros(())))
    return AdditiveCost(unit, constant, tuple(CostTable(columns, values) for columns, values in sums.items()))


def _by_group(owner: Owner, anatomy: Anatomy) -> dict[tuple[int, ...], Floats]:
    """How many positions are kept, as a sum of vectors over the options of single groups and a number under ()."""
    found: dict[tuple[int, ...], Floats] = {(): np.array(float((owner.group < 0).sum()))}
    for group in owner.groups.tolist():
        ranks = owner.rank[owner.group == group]
        found[(group,)] = np.array([float((ranks < count).sum()) for count in anatomy.groups[group].kept])
    return found


def _product(factors: list[dict[tuple[int, ...], Floats]]) -> Iterable[tuple[tuple[int, ...], Floats]]:
    """The product of sums, multiplied out: columns, and a table over their options."""
    if not factors:
        yield (), np.array(1.0)
    elif len(factors) == 1:
        yield from factors[0].items()
    else:
        for one, values in factors[0].items():
            for other, others in factors[1].items():
                yield (one, values * others) if one == other else ((*one, *other), _outer(values, others))


def _outer(one: Floats, other: Floats) -> Floats:
    return np.multiply.outer(one, other)


def _add(sums: dict[tuple[int, ...], Floats], columns: tuple[int, ...], table: Floats) -> None:
    """Add a table to those over the same columns, whatever their order."""
    order = sorted(range(len(columns)), key=columns.__getitem__)
    key = tuple(columns[i] for i in order)
    table = table.transpose(order) if len(columns) > 1 else table
    sums[key] = sums[key] + table if key in sums else table


def widths(supernet: GivenSupernet, row: npt.NDArray[np.int64]) -> Mapping[str, tuple[int, int]]:
    """(channels in, channels out) of every layer with weights of a path, by name; (0, 0) where its block is left out."""
    anatomy = supernet.anatomy
    counts = np.array([group.kept[option] for group, option in zip(anatomy.groups, row, strict=False)], dtype=np.int64)
    first = len(row) - len(anatomy.optional)
    gone = tuple(f"{name}." for name, option in zip(anatomy.optional, row[first:], strict=True) if option == 0)
    shapes = {name: tuple(parameter.shape) for name, parameter in supernet.body.named_parameters()}
    found = {}
    for use in anatomy.uses:
        out, per_group = shapes[use.weight][:2]
        kept = [
            len(anatomy.owners[use.weight, d].kept(counts)) if (use.weight, d) in anatomy.owners else size
            for d, size in ((0, out), (1, per_group))
        ]
        arriving = kept[1] if use.groups == 1 else kept[0] * use.groups * per_group // out
        found[use.layer] = (0, 0) if gone and f"{use.layer}.".startswith(gone) else (arriving, kept[0])
    return found


def measured(
    supernet: GivenSupernet,
    measure: Callable[[nn.Module, tuple[int, ...]], float],
    on_progress: Callable[[float], None] = lambda share: None,
) -> AdditiveCost:
    """What layers take by themselves, added up: of each a function of its two widths, through a few measured ones.

    A layer takes a + b in + c out + d in out, none of them negative, which comes nearest to what it takes at the four corners of its widths
    and in the middle. What any run takes, of however little, is taken off first: a network pays it once. What lies between layers is not
    seen, and a layer that runs again and again has its weights at hand, which a network that is larger than the cache has not (see `plus`);
    whoever needs it corrects the sum by whole networks.

    Args:
        supernet: of the given network.
        measure: (layer, shape of what arrives) -> milliseconds, say.
        on_progress: called with the share of layers done.
    """
    known: dict[tuple[object, ...], float] = {}
    terms: list[tuple[str, Term]] = []
    constant = measure(nn.Conv2d(1, 1, 1), (1, 1, 1))

    def beyond(layer: nn.Module, shape: tuple[int, ...]) -> float:
        taken = measure(layer, shape)
        return max(taken - constant, LEAST * taken)

    for i, use in enumerate(supernet.anatomy.uses):
        name = use.layer
        layer = supernet.body.get_submodule(name)
        fits = [_fit(supernet, use, size, layer, beyond, known) for size in supernet.anatomy.kernels.get(name, (None,))]
        out, arriving = (use.weight, 0), (use.weight, 1)
        for column, keys in enumerate(((), (arriving,), (out,), (arriving, out))):
            factor = np.array([fit[column] for fit in fits])
            if not factor.any():
                continue
            owned = tuple(key for key in keys if key in supernet.anatomy.owners)
            for key in keys:
                if key not in owned:  # a width that never changes is a number
                    factor = factor * _width(supernet, key)
            terms.append((name, Term(factor, owned)))
        on_progress((i + 1) / len(supernet.anatomy.uses))
    return additive(supernet, terms, constant, "ms")


def plus(one: AdditiveCost, other: AdditiveCost, times: float) -> AdditiveCost:
    """A cost plus some times another one: what reading every weight once takes, say, beside what layers take."""
    sums = {columns: values for columns, values, _ in one.tables}
    for columns, values, _ in other.tables:
        _add(sums, columns, times * values)
    return AdditiveCost(one.unit, one.constant + times * other.constant, tuple(CostTable(*table) for table in sums.items()))


def _width(supernet: GivenSupernet, key: tuple[str, int]) -> int:
    return int(supernet.body.get_parameter(key[0]).shape[key[1]])


def _fit(
    supernet: GivenSupernet,
    use: Use,
    kernel: int | None,
    layer: nn.Module,
    measure: Callable[[nn.Module, tuple[int, ...]], float],
    known: dict[tuple[object, ...], float],
) -> Floats:
    """(a, b, c, d) of a layer."""
    ends = [_ends(supernet, (use.weight, dimension)) for dimension in (1, 0)]
    if use.groups > 1:
        ends[0] = ends[0][-1:]  # of a grouped convolution what arrives goes with what leaves
    corners = sorted({(i, o) for i in ends[0] for o in ends[1]} | {(ends[0][len(ends[0]) // 2], ends[1][len(ends[1]) // 2])})
    rows, found = [], []
    for i, o in corners:
        part, shape = _part(layer, use, i, o, kernel)
        key = (repr(part), shape)
        if key not in known:
            known[key] = measure(part, shape)
        rows.append([1.0, i, o, i * o])
        found.append(known[key])
    y = np.array(found)
    design = np.array(rows)
    if len({i for i, _ in corners}) == 1:
        design[:, [1, 3]] = 0.0
    if len({o for _, o in corners}) == 1:
        design[:, [2, 3]] = 0.0
    scale = np.maximum(design.max(axis=0), 1.0)
    return np.asarray(nnls(design / scale / y[:, None], np.ones_like(y))[0]) / scale


def _ends(supernet: GivenSupernet, key: tuple[str, int]) -> list[int]:
    """The fewest, some, and all of the positions that may be kept."""
    owner = supernet.anatomy.owners.get(key)
    if owner is None:
        return [_width(supernet, key)]
    columns = [[group.kept[option] for group in supernet.anatomy.groups] for option in (0, len(SHARES) // 2, -1)]
    return sorted({len(owner.kept(np.array(counts))) for counts in columns})


def _part(layer: nn.Module, use: Use, arriving: int, leaving: int, kernel: int | None) -> tuple[nn.Module, tuple[int, ...]]:
    """A layer of its own with so many channels, and what arrives at it."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(arriving, leaving, layer.bias is not None), (*use.input_shape[:-1], arriving)
    assert isinstance(layer, nn.Conv2d)
    size = layer.kernel_size if kernel is None else (kernel, kernel)
    padding = layer.padding if kernel is None else centred_padding(layer, kernel)
    groups = layer.groups if use.groups == 1 else leaving * layer.groups // layer.out_channels
    channels = arriving if use.groups == 1 else groups * (layer.in_channels // layer.groups)
    part = nn.Conv2d(channels, leaving, size, layer.stride, padding, layer.dilation, groups, layer.bias is not None)  # type: ignore[arg-type]
    return part, (channels, *use.input_shape[1:])
