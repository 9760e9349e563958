"""Latency of every architecture of a space, from a table of blocks: measured on this host, or read from a file.

A block run alone pays for its own start and for reading its input cold, so the sum of measured blocks overstates a small
network (1.0 to 2.7 times, measured). `corrected` fits an affine map to about ten networks measured whole and keeps the
residual, which every report shows. The map has a positive slope, so the ends of the table stay the ends.

A table file is JSON. Options that a narrowed space does not allow may be missing; a block that reads two choices stands under both
names, joined by a comma, as do its options:

    {"device": "Pixel 9", "unit": "ms", "constant": 0.8,
     "choices": {"stage0.block0.op": {"mb3_k3": 0.41, "skip": 0.0, ...},
                 "stage1.block0.op,stage1.block0.width": {"shuffle_k3,0.2": 0.18, ...}, ...},
     "slope": 1.0, "intercept": 0.0}

`constant` is what every network has (stem, head); `slope` and `intercept` (optional) are the affine map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from evonas.budget import Cost
from evonas.errors import UsageError, first_line, shortened, unknown
from evonas.files import read_as, write_json
from evonas.space import Architecture, Population, SearchSpace
from evonas.tables import AdditiveCost, CostTable, Part, Shape, tabulate
from predictors.devices.runtime import Backend, measure_all, require_one_tensor, time_onnx
from predictors.devices.schema import ByState, LatencyFile

ADDED_UP = 4000
JOINED = ","
MOST_ENTRIES = 1_000_000


@dataclass(frozen=True)
class Residual:
    """How far a corrected table is from the networks it was fitted to, relative to what was measured."""

    networks: int
    mean: float
    worst: float

    def __str__(self) -> str:
        return f"{self.networks} networks measured whole: mean error {100 * self.mean:.1f} %, worst {100 * self.worst:.1f} %"


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of an architecture: `intercept + slope * (sum over blocks)`. A cost.

    Attributes:
        device: what was measured.
        blocks: the sum over blocks.
        slope, intercept: the affine map.
        residual: how well it fits, where it was fitted.
    """

    device: str
    blocks: AdditiveCost
    slope: float = 1.0
    intercept: float = 0.0
    residual: Residual | None = None
    unit: str = "ms"

    def __repr__(self) -> str:
        return f"LatencyTable({self.device}: {self.residual or 'not corrected'})"

    def __call__(self, population: Population) -> npt.NDArray[np.float64]:
        """Milliseconds of every row: shape (n,)."""
        return self.intercept + self.slope * self.blocks(population)

    def extremes(self, space: SearchSpace) -> tuple[Architecture, Architecture]:
        """The fastest and the slowest architecture, exactly."""
        return self.blocks.extremes(space)

    def save(self, path: Path, space: SearchSpace) -> None:
        """Write the table file."""
        write_json(path, self.plain(space))

    def plain(self, space: SearchSpace) -> dict[str, Any]:
        """The table as what a table file holds."""
        choices, running = {}, []
        for table in self.blocks.tables:
            names = [space.names[column] for column in table.columns]
            if table.following is None and len(table.by_state) == 1:
                entries = zip(_entries(space, table.columns), table.by_state.ravel().tolist(), strict=True)
                choices[JOINED.join(names)] = {key: v for key, v in entries if math.isfinite(v)}
            else:
                finite = [value if math.isfinite(value) else None for value in table.values.ravel().tolist()]
                hands_on = None if table.following is None else table.following.ravel().tolist()
                running.append({"choices": names, "states": len(table.values), "milliseconds": finite, "hands_on": hands_on})
        residual = asdict(self.residual) if self.residual else None
        content = {"device": self.device, "unit": self.unit, "constant": self.blocks.constant, "choices": choices}
        columns = [column for table in self.blocks.tables for column in table.columns]
        content |= {"overlapping": True} if len(set(columns)) < len(columns) else {}
        content |= {"by_state": running} if running else {}
        return {**content, "slope": self.slope, "intercept": self.intercept, "residual": residual}


def read_table(path: Path, space: SearchSpace) -> LatencyTable:
    """Read a table file and check it against a space.

    Raises:
        UsageError: the file is missing or damaged, its unit is not ms, a choice or an option is missing or unknown, or a
            value is not a finite number.
    """
    content = read_as(path, LatencyFile)
    tables: list[CostTable] = []
    _require_this_space(path, content, space)
    for names, entries in content.choices.items():
        columns = tuple(_column(path, space, name) for name in names.split(JOINED))
        if len(set(columns)) < len(columns):
            raise UsageError(f"{path} names a choice twice in {shortened(names)!r}; expected each once.")
        wanted = _entries(space, columns, allowed_only=True, path=path)
        if missing := [option for option in wanted if option not in entries]:
            raise UsageError(f"{path} lacks the option {missing[0]!r} of {names!r}; expected {', '.join(wanted[:20])}.")
        values = np.array([entries.get(key, math.nan) for key in _entries(space, columns, path=path)])
        tables.append(CostTable(columns, values.reshape([len(space.choices[column].options) for column in columns])))
    covered = [column for table in tables for column in table.columns]
    tables += (running := [_by_state(path, space, entry) for entry in content.by_state])
    if running or content.overlapping:  # several tables may read a choice
        covered = list({column for table in tables for column in table.columns})
    for column, name in enumerate(space.names):
        if covered.count(column) != 1:
            raise UsageError(f"{path} {'holds twice' if column in covered else 'lacks'} the choice {name!r}; expected every choice once.")
    _require_states(path, tables)
    return LatencyTable(
        content.device or path.stem,
        AdditiveCost("ms", content.constant, tuple(tables)),
        content.slope,
        content.intercept,
        None if content.residual is None else Residual(**content.residual.model_dump()),
    )


def measure_blocks(
    space: SearchSpace,
    parts: Sequence[Part],
    *,
    backend: Backend = time_onnx,
    device: str = "this host, ONNX Runtime, one thread",
    on_progress: Callable[[float], None] | None = None,
) -> LatencyTable:
    """Measure every allowed option of every part once; equal blocks on equal shapes are measured together.

    Args:
        space: coordinates of the choices.
        parts: of the network, see `predictors.costs.Part`.
        backend: (ONNX file, image shape) -> milliseconds.
        device: name of what the backend measures.
        on_progress: called with the share that is done.
    """
    wanted: dict[tuple[str, Shape], tuple[nn.Module, Shape]] = {}
    in_turn: list[tuple[str, Shape] | None] = []  # of every look; a module that is made again may not be described as before

    def asked(module: nn.Module, input_shape: Shape) -> float:
        key = None if isinstance(module, nn.Identity) else (described(module), input_shape)
        in_turn.append(key)
        if key is not None:
            require_one_tensor(input_shape)
            wanted.setdefault(key, (module, input_shape))
        return 0.0

    tabulate(space, parts, asked, "ms", allowed_only=True)
    known = dict(zip(wanted, measure_all(list(wanted.values()), backend, on_progress), strict=True))
    looks = iter([0.0 if key is None else known[key] for key in in_turn])
    return LatencyTable(device, tabulate(space, parts, lambda *_: next(looks), "ms", allowed_only=True))


def described(module: nn.Module) -> str:
    """What decides how long a module runs: its layers and, since two modules may wire equal layers differently, their plain attributes."""
    found = []
    for name, layer in module.named_modules():
        plain = sorted((key, repr(value)) for key, value in vars(layer).items() if not key.startswith("_") and key != "training")
        found.append(f"{name}: {type(layer).__module__}.{type(layer).__qualname__}({layer.extra_repr()}) {plain}")
    return "\n".join(found)


def spread(space: SearchSpace, cost: Cost, n: int, seed: int) -> Population:
    """`n` different architectures at even steps through the ranking of 1,000 random ones by a cost."""
    population = np.unique(space.sample(1000, np.random.default_rng([seed, 3])), axis=0)
    order = np.argsort(cost(population), kind="stable")
    return population[order[np.unique(np.linspace(0, len(order) - 1, n).round().astype(int))]]


def corrected(table: LatencyTable, population: Population, measured: Sequence[float]) -> LatencyTable:
    """The table with the affine map that fits networks measured whole best (least squares, relative errors).

    Args:
        table: sums of blocks.
        population: the networks, at least three.
        measured: their milliseconds.

    Raises:
        UsageError: the measurements do not grow with the table (a machine too noisy to measure on).
    """
    sums, y = table.blocks(population), np.asarray(measured, dtype=np.float64)
    design = np.stack([np.ones_like(sums), sums], axis=1) / y[:, None]
    (intercept, slope), *_ = np.linalg.lstsq(design, np.ones_like(y), rcond=None)
    if len(y) < 3 or not slope > 0:
        raise UsageError(
            f"The latency of {len(y)} whole networks does not grow with the sum of their blocks (slope {slope:.3g}); expected at least 3 "
            f"networks on a quiet machine. Measure again, or give a table with --latency-table."
        )
    fitted = replace(table, slope=float(slope), intercept=float(intercept))
    error = np.abs(fitted(population) / y - 1)
    return replace(fitted, residual=Residual(len(y), float(error.mean()), float(error.max())))


def additive(space: SearchSpace, device: str, cost: Cost, blocks: Sequence[tuple[int, ...]]) -> tuple[LatencyTable, float]:
    """The table whose sums are nearest to a cost that is no sum, and the share of the cost's variance that it explains.

    A search needs a table's exact ends, and its user a file that can be read. Latencies of chains nearly add up; of cells they do not.

    Args:
        space: of the architectures.
        device: name of what the cost foretells.
        cost: in ms.
        blocks: the choices that each block reads; blocks that read the same share a table.

    Returns:
        The table, fitted to 4,000 random architectures by least squares, and that share.
    """
    population = space.sample(ADDED_UP, np.random.default_rng(5))
    groups = list(dict.fromkeys(blocks))
    shapes = [tuple(int(space.sizes[column]) for column in columns) for columns in groups]
    taken = [np.ravel_multi_index(tuple(population[:, c] for c in columns), shape) for columns, shape in zip(groups, shapes, strict=True)]
    columns = [options[:, None] == np.arange(np.prod(shape)) for options, shape in zip(taken, shapes, strict=True)]
    design = np.concatenate(columns, axis=1).astype(np.float64)
    milliseconds = np.asarray(cost(population))
    centre = milliseconds.mean()
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    values = np.linalg.lstsq(design, milliseconds - centre, rcond=None)[0]
    explained = 1 - float(((design @ values + centre - milliseconds) ** 2).sum() / max(((milliseconds - centre) ** 2).sum(), 1e-300))
    parts = np.split(values, ends)
    constant = float(centre + sum(part.min() for part in parts))
    tables = tuple(CostTable(g, (part - part.min()).reshape(shape)) for g, part, shape in zip(groups, parts, shapes, strict=True))
    return LatencyTable(device, AdditiveCost("ms", constant, tables)), explained


def _entries(space: SearchSpace, columns: Sequence[int], *, allowed_only: bool = False, path: Path | None = None) -> list[str]:
    """The keys of a table file for some choices, in the order of the table."""
    options = [[space.choices[c].options[i] for i in (space.allowed[c] if allowed_only else range(space.sizes[c]))] for c in columns]
    if path is not None and math.prod(map(len, options)) > MOST_ENTRIES:
        raise UsageError(f"{path} has a table over {len(columns)} choices together; expected at most {MOST_ENTRIES:,} entries.")
    return [JOINED.join(pair) for pair in itertools.product(*options)]


def _require_this_space(path: Path, content: LatencyFile, space: SearchSpace) -> None:
    """Refuse a table of another space or layout in these words; a single wrong name is answered by the nearest right one.

    Raises:
        UsageError: more than one choice is strange or missing.
    """
    told = {name for names in content.choices for name in names.split(JOINED)} | {name for e in content.by_state for name in e.choices}
    strange, missing = [name for name in told if name not in space.names], [name for name in space.names if name not in told]
    if len(strange) + len(missing) > 2:
        raise UsageError(
            f"{path} is a table of another space or layout: {len(strange)} of its {len(told)} choices are not among the {len(space)} here, "
            f"and {len(missing)} of those are not in it{f' ({missing[0]}, ...)' if missing else ''}. Expected one of the same --layout, "
            f"--widths and --depths; a run without a table leaves a latency.json, which shows the form."
        )


def _column(path: Path, space: SearchSpace, name: str) -> int:
    if name not in space.names:
        raise UsageError(f"{path}: {unknown('choice', name, space.names)}")
    return space.names.index(name)


def _by_state(path: Path, space: SearchSpace, entry: ByState) -> CostTable:
    """A table whose values depend on what arrives, as `LatencyTable.save` writes it."""
    columns = tuple(_column(path, space, name) for name in entry.choices)
    shape = [entry.states, *(len(space.choices[column].options) for column in columns)]
    try:
        values = np.array(entry.milliseconds, dtype=np.float64).reshape(shape)  # null becomes NaN
        hands_on = None if entry.hands_on is None else np.array(entry.hands_on, dtype=np.int64).reshape(shape)
    except ValueError as error:
        raise UsageError(f"{path}: a table by state is malformed ({first_line(error)}); expected as many as its shape.") from None
    return CostTable(columns, values, hands_on)


def _require_states(path: Path, tables: Sequence[CostTable]) -> None:
    """Whatever a table hands on is a state that the tables after it know."""
    known = 1
    for table in tables:
        if len(table.by_state) > 1 and len(table.by_state) < known:
            raise UsageError(f"{path}: a table by state has {len(table.by_state)} states, and {known} arrive; expected as many.")
        if table.following is not None:
            known = int(table.following.max()) + 1
