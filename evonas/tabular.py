"""Fitness and costs read from published tables: every network trained once, by somebody else, so that a search costs nothing.

NAS-Bench-201: Dong and Yang, 2020, arXiv 2001.00326. NATS-Bench (topology and size): Dong et al., 2020, arXiv 2009.00437.
NAS-Bench-Macro: Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", 2021, arXiv 2103.11922. Measured latencies of
NAS-Bench-201 cells: HW-NAS-Bench (Li et al., 2021, arXiv 2103.10584) and HELP (Lee et al., 2021, arXiv 2106.08630).

Accuracies are in [0, 1], latencies in ms.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError, first_line, unknown
from evonas.graph import Graph
from evonas.space import Choice, Population, SearchSpace

Floats = npt.NDArray[np.float64]

CELL_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SIZE_WIDTHS = ("8", "16", "24", "32", "40", "48", "56", "64")
MACRO_OPERATIONS = ("identity", "mb3_k3", "mb6_k5")
MACRO_STAGES = (2, 3, 3)
NATS_DATA_SETS = {"cifar10": "cifar10", "cifar100": "cifar100", "in16": "ImageNet16-120"}


class Lookup:
    """A number for every architecture of a small space; a fitness, and with a unit a cost as well.

    Args:
        space: of the architectures.
        architectures: shape (n, choices), each once.
        values: shape (n,).
        unit: of the values; "" for a plain number.

    Raises:
        UsageError: the shapes do not fit, an architecture is there twice, or one that is asked for is missing.
    """

    def __init__(self, space: SearchSpace, architectures: Population, values: npt.ArrayLike, unit: str = "") -> None:
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (len(architectures),) or architectures.shape[1:] != (len(space),):
            raise UsageError(f"Architectures {architectures.shape} and values {values.shape} do not fit a space of {len(space)} choices.")
        self.space, self.unit = space, unit
        self._weights = np.concatenate([np.cumprod(space.sizes[:0:-1])[::-1], [1]])
        order = np.argsort(architectures @ self._weights)
        self._ranks, self._values = (architectures @ self._weights)[order], values[order]
        if not (inside := space.contains(architectures)).all():
            raise UsageError(f"The table lists {tuple(architectures[~inside][0].tolist())}, which is outside of its space.")
        if (twice := np.flatnonzero(np.diff(self._ranks) == 0)).size:
            one, other = sorted(order[twice[0] : twice[0] + 2].tolist())
            raise UsageError(
                f"The table lists an architecture twice, in rows {one + 1} and {other + 1}: {space.to_names(architectures[one])}. "
                f"Expected each once (the mean of repeated measurements)."
            )

    def __call__(self, population: Population) -> Floats:
        """The value of every row."""
        ranks = population @ self._weights
        at = np.minimum(np.searchsorted(self._ranks, ranks), len(self._ranks) - 1)
        if not (found := self._ranks[at] == ranks).all():
            raise UsageError(f"The table holds no architecture {tuple(population[~found][0].tolist())}.")
        return self._values[at]


@dataclass(frozen=True)
class Table:
    """A published table: architectures and, by name, columns of what was measured of them.

    Attributes:
        space: what is tabulated.
        architectures: shape (n, choices).
        columns: by name, shape (n,), or (n, runs) where single runs were published.
    """

    space: SearchSpace
    architectures: Population
    columns: Mapping[str, Floats] = field(repr=False)

    def __len__(self) -> int:
        return len(self.architectures)

    def rows(self, population: Population) -> npt.NDArray[np.int64]:
        """Which row of the table each architecture is: shape (n,)."""
        return Lookup(self.space, self.architectures, np.arange(len(self)))(population).astype(np.int64)

    def lookup(self, column: str, *, run: int | None = None, unit: str = "") -> Lookup:
        """The values of a column: a fitness, or with a unit a cost.

        Args:
            column: one of `columns`; the mean where it has several runs.
            run: draw, instead of the mean, one run for each architecture, seeded with this: a fitness with the noise of training.
            unit: "ms" for a latency.

        Raises:
            UsageError: no such column.
        """
        if column not in self.columns:
            raise unknown("column", column, self.columns)
        values = self.columns[column].reshape(len(self), -1)
        if run is None:
            return Lookup(self.space, self.architectures, values.mean(axis=1), unit)
        drawn = np.random.default_rng(run).integers(values.shape[1], size=len(self))
        return Lookup(self.space, self.architectures, values[np.arange(len(self)), drawn], unit)


def read_csv(path: str | Path, values: Sequence[str]) -> Table:
    """A table of your own: a CSV file with a row for every architecture; the space is that of the rows.

    Every column is a choice but for the named ones, which are numbers: a score, costs. The options of a choice are what its column holds,
    in ascending order where they are numbers. Rows that repeat an architecture give their mean.

        table = read_csv("trained.csv", ["accuracy", "latency"])
        budget = Budget({"latency": table.lookup("latency", unit="ms")}, ["latency=5ms"])
        search(table.space, table.lookup("accuracy"), BayesianExplorer(table.space, budget, predictor=GaussianProcess(table.space)), ...)

    Args:
        path: of the file.
        values: names of the columns that are numbers.

    Raises:
        UsageError: the file cannot be read, lacks a column, has no choice or no row, or a value that is no number.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"Cannot read {path}: {first_line(error)}. Expected a CSV file with a row for every architecture.") from None
    if missing := [name for name in values if name not in columns]:
        raise unknown("column", missing[0], columns)
    names = [name for name in columns if name not in values]
    if not rows or not names or any(None in row or None in row.values() for row in rows):
        raise UsageError(f"{path} has {len(rows)} rows and {len(names)} choices; expected at least one of each, and every row complete.")
    choices = tuple(Choice(name, tuple(sorted({row[name] for row in rows}, key=_in_order))) for name in names)
    space = SearchSpace(choices)
    population = space.population([space.from_names({name: row[name] for name in names}) for row in rows])
    unique, which = np.unique(population, axis=0, return_inverse=True)
    found = {name: np.array([_number(path, i + 2, name, row[name]) for i, row in enumerate(rows)]) for name in values}
    means = {name: np.bincount(which.ravel(), column) / np.bincount(which.ravel()) for name, column in found.items()}
    return Table(space.only(unique), unique, means)


def _in_order(option: str) -> tuple[int, float, str]:
    """Numbers by size, then texts."""
    try:
        return (0, float(option), option)
    except ValueError:
        return (1, 0.0, option)


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{path}, line {line}: {name} is {text!r}; expected a number, with a point.")
    return value


def nasbench201_space() -> SearchSpace:
    """NAS-Bench-201, the topology space of NATS-Bench: six edges between four nodes, five operations, 15,625 cells."""
    choices = tuple(Choice(f"{target}<-{source}", CELL_OPERATIONS) for source, target in CELL_EDGES)
    return SearchSpace(choices, graph=Graph(CELL_EDGES))


def nats_size_space() -> SearchSpace:
    """The size space of NATS-Bench: eight widths for each of five layers, 32,768 networks."""
    return SearchSpace(tuple(Choice(f"layer{i}.width", SIZE_WIDTHS) for i in range(5)))


def nasbench_macro_space() -> SearchSpace:
    """NAS-Bench-Macro: three operations for each of eight layers; 6,561 architectures, of which 3,969 are different networks."""
    return SearchSpace(tuple(Choice(f"layer{i}.op", MACRO_OPERATIONS) for i in range(8)), canonicalise=identities_last)


def identities_last(population: Population) -> Population:
    """Macro architectures with the identities of a stage moved behind its other layers: the same networks.

    The first layer of a stage stays where it is, since it changes the shape. The table's authors trained one network for all that
    agree in this form, and wrote its accuracies into each of their rows.
    """
    moved, first = population.copy(), 0
    for depth in MACRO_STAGES:
        rest = population[:, first + 1 : first + depth]
        order = np.argsort(rest == 0, axis=1, kind="stable")
        moved[:, first + 1 : first + depth] = np.take_along_axis(rest, order, axis=1)
        first += depth
    return moved


def nasbench201(path: str | Path) -> Table:
    """NAS-Bench-201 from compact arrays: `test200_*` (mean test accuracy after 200 epochs) and `ep12_*_val`, `ep12_*_test`.

    Args:
        path: an .npz file with `ops` (n, 6) in the order of the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2.
    """
    arrays = read_arrays(path, "ops")
    names = [name for name in arrays if name.startswith(("test200_", "ep12_"))]
    return Table(
        nasbench201_space(), arrays["ops"].astype(np.int64), {name: np.nan_to_num(arrays[name].astype(np.float64)) / 100 for name in names}
    )


def nasbench201_latency(path: str | Path, accuracies: Table) -> Table:
    """Measured latencies of NAS-Bench-201 cells in ms, one column a device; the rows follow the official index.

    Args:
        path: an .npz file with `help_devices` (d,) and `help_latency_ms` (n, d).
        accuracies: the table whose rows these are.
    """
    arrays = read_arrays(path, "help_latency_ms")
    if len(arrays["help_latency_ms"]) != len(accuracies):
        raise UsageError(f"{path} has {len(arrays['help_latency_ms'])} rows; expected {len(accuracies)}, one for each cell.")
    columns = dict(zip(map(str, arrays["help_devices"]), arrays["help_latency_ms"].astype(np.float64).T, strict=True))
    return Table(accuracies.space, accuracies.architectures, columns)


def nasbench_macro(path: str | Path) -> Table:
    """NAS-Bench-Macro, from its authors' JSON file or from compact arrays: `test` (n, 3 runs), `params`, `macs`."""
    if Path(path).suffix == ".npz":
        arrays = read_arrays(path, "arch")
        rows, test, params, macs = (arrays[name] for name in ("arch", "test_acc", "params", "flops"))
    else:
        rows, test, params, macs = _macro_columns(Path(path))
    columns = {"test": (np.asarray(test, np.float64) / 100).round(6), "params": params.astype(np.float64), "macs": macs.astype(np.float64)}
    return Table(nasbench_macro_space(), rows.astype(np.int64), columns)


def _macro_columns(path: Path) -> tuple[npt.NDArray[Any], ...]:
    content = read_json_file(path)
    try:
        rows = np.array([[int(digit) for digit in key] for key in content], dtype=np.int64).reshape(len(content), 8)
        test, params, macs = (
            np.array([entry[name] for entry in content.values()], dtype=np.float64) for name in ("test_acc", "params", "flops")
        )
        if not (len(rows) and test.shape == (len(rows), 3) and params.shape == macs.shape == (len(rows),) and np.isfinite(test).all()):
            raise ValueError(f"{len(rows)} networks with accuracies of shape {test.shape}")
        if rows.min() < 0 or rows.max() >= len(MACRO_OPERATIONS):
            raise ValueError("an operation that there is not")
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(
            f'{path} is not NAS-Bench-Macro: expected {{"00000000": {{"test_acc": [...], ...}}}}, but {type(error).__name__}: '
            f"{first_line(error)}."
        ) from error
    return rows, test, params, macs


def nats_bench(path: str | Path, kind: str, *, trust_pickle: bool = False) -> Table:
    """NATS-Bench through its authors' package (`pip install evonas[nats]`): `full_*` and `cheap_*` test accuracies.

    Args:
        path: the unpacked archive (`NATS-tss-v1_0-3ffb9-simple` or `NATS-sss-v1_0-50262-simple`).
        kind: "topology" (200 and 12 epochs) or "size" (90 and 12 epochs).
        trust_pickle: the package unpickles the file, which runs code that is in it; say that you trust where you got it.

    Raises:
        UsageError: the kind is unknown, the file not trusted, or the package missing.
    """
    kinds = {"topology": ("tss", "200", nasbench201_space()), "size": ("sss", "90", nats_size_space())}
    if kind not in kinds:
        raise unknown("kind of NATS-Bench", kind, kinds)
    if not trust_pickle:
        raise UsageError(f"Reading {path} unpickles it, which runs code that is in it. Pass trust_pickle=True if you trust its source.")
    try:
        from nats_bench import create
    except ImportError as error:
        raise UsageError("NATS-Bench files need their authors' package: pip install 'evonas[nats]'.") from error
    name, epochs, space = kinds[kind]
    interface = create(str(path), name, fast_mode=True, verbose=False)
    rows = np.array([architecture_of(interface.arch(i), space) for i in range(len(interface))])

    def accuracy(data_set: str, schedule: str) -> Floats:
        official = NATS_DATA_SETS[data_set]
        found = (interface.get_more_info(i, official, hp=schedule, is_random=False) for i in range(len(interface)))
        return np.array([entry["test-accuracy"] for entry in found]) / 100

    schedules = {"full": epochs, "cheap": "12"}
    columns = {f"{word}_{data_set}": accuracy(data_set, schedule) for word, schedule in schedules.items() for data_set in NATS_DATA_SETS}
    return Table(space, rows, columns)


def architecture_of(text: str, space: SearchSpace) -> tuple[int, ...]:
    """The architecture that NATS-Bench writes as `|nor_conv_3x3~0|+|none~0|...|` (topology) or `64:16:8:8:32` (size).

    Raises:
        UsageError: the text does not name one option of every choice.
    """
    if space.graph is None:
        return space.from_names(dict(zip(space.names, text.split(":"), strict=False)))
    names = {}
    for target, node in enumerate(text.split("+"), start=1):
        for part in node.strip("|").split("|"):
            operation, _, source = part.partition("~")
            names[f"{target}<-{source}"] = operation
    return space.from_names(names)


def read_arrays(path: str | Path, needed: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file, nothing unpickled; one clear line where it cannot be read or lacks `needed`."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # an archive can be damaged in many ways
        raise UsageError(f"Cannot read {path}: {first_line(error)}. Expected an .npz file with {needed!r}.") from error
    if needed not in content:
        raise UsageError(f"{path} has no array {needed!r}; it has: {', '.join(content)}.")
    return content


def read_json_file(path: str | Path) -> dict[str, Any]:
    """The content of a JSON file, gzipped where its name ends in .gz; one clear line where it cannot be read."""
    try:
        content = Path(path).read_bytes()
        parsed: dict[str, Any] = json.loads(gzip.decompress(content) if str(path).endswith(".gz") else content)
        return parsed
    except (OSError, ValueError, EOFError, RecursionError, zlib.error) as error:
        raise UsageError(f"Cannot read {path}: {first_line(error)}. Expected a JSON file.") from error
