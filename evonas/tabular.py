"""Fitness and costs read from published tables: every network trained once, by somebody else, so that a search costs nothing.

NAS-Bench-201: Dong and Yang, 2020, arXiv 2001.00326. NATS-Bench (topology and size): Dong et al., 2020, arXiv 2009.00437.
NAS-Bench-Macro: Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", 2021, arXiv 2103.11922. Measured latencies of
NAS-Bench-201 cells: HW-NAS-Bench (Li et al., 2021, arXiv 2103.10584) and HELP (Lee et al., 2021, arXiv 2106.08630).
Once-for-all: Cai et al., 2019, arXiv 1908.09791; its accuracies are a *surrogate's*, and so is everything found on them.

Accuracies are in [0, 1], latencies in ms.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError, unknown
from evonas.graph import Graph
from evonas.space import Choice, Population, SearchSpace

Floats = npt.NDArray[np.float64]

CELL_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SIZE_WIDTHS = ("8", "16", "24", "32", "40", "48", "56", "64")
MACRO_OPERATIONS = ("identity", "mb3_k3", "mb6_k5")
ONCE_FOR_ALL_WIDTHS = (24, 32, 48, 96, 136, 192)
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
        if not space.contains(architectures).all() or (np.diff(self._ranks) == 0).any():
            raise UsageError("The table lists an architecture outside of its space, or one of them twice.")

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


def cell_space() -> SearchSpace:
    """NAS-Bench-201, the topology space of NATS-Bench: six edges between four nodes, five operations, 15,625 cells."""
    choices = tuple(Choice(f"{target}<-{source}", CELL_OPERATIONS) for source, target in CELL_EDGES)
    return SearchSpace(choices, graph=Graph(CELL_EDGES))


def size_space() -> SearchSpace:
    """The size space of NATS-Bench: eight widths for each of five layers, 32,768 networks."""
    return SearchSpace(tuple(Choice(f"layer{i}.width", SIZE_WIDTHS) for i in range(5)))


def macro_space() -> SearchSpace:
    """NAS-Bench-Macro: three operations for each of eight layers, 6,561 networks."""
    return SearchSpace(tuple(Choice(f"layer{i}.op", MACRO_OPERATIONS) for i in range(8)))


def nasbench201(path: str | Path) -> Table:
    """NAS-Bench-201 from compact arrays: `test200_*` (mean test accuracy after 200 epochs) and `ep12_*_val`, `ep12_*_test`.

    Args:
        path: an .npz file with `ops` (n, 6) in the order of the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2.
    """
    arrays = _arrays(path, "ops")
    names = [name for name in arrays if name.startswith(("test200_", "ep12_"))]
    return Table(
        cell_space(), arrays["ops"].astype(np.int64), {name: np.nan_to_num(arrays[name].astype(np.float64)) / 100 for name in names}
    )


def nasbench201_latency(path: str | Path, accuracies: Table) -> Table:
    """Measured latencies of NAS-Bench-201 cells in ms, one column a device; the rows follow the official index.

    Args:
        path: an .npz file with `help_devices` (d,) and `help_latency_ms` (n, d).
        accuracies: the table whose rows these are.
    """
    arrays = _arrays(path, "help_latency_ms")
    if len(arrays["help_latency_ms"]) != len(accuracies):
        raise UsageError(f"{path} has {len(arrays['help_latency_ms'])} rows; expected {len(accuracies)}, one for each cell.")
    columns = dict(zip(map(str, arrays["help_devices"]), arrays["help_latency_ms"].astype(np.float64).T, strict=True))
    return Table(accuracies.space, accuracies.architectures, columns)


def nasbench_macro(path: str | Path) -> Table:
    """NAS-Bench-Macro, from its authors' JSON file or from compact arrays: `test` (n, 3 runs), `params`, `macs`."""
    if Path(path).suffix == ".npz":
        arrays = _arrays(path, "arch")
        rows, test, params, macs = (arrays[name] for name in ("arch", "test_acc", "params", "flops"))
    else:
        content = _json(path)
        try:
            rows = np.array([[int(digit) for digit in key] for key in content])
            test, params, macs = (np.array([entry[name] for entry in content.values()]) for name in ("test_acc", "params", "flops"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f'{path} is not NAS-Bench-Macro: expected {{"00000000": {{"test_acc": [...], ...}}}}, but {error!r}.'
            ) from error
    columns = {"test": test / 100, "params": params.astype(np.float64), "macs": macs.astype(np.float64)}
    return Table(macro_space(), rows.astype(np.int64), columns)


def nats_bench(path: str | Path, kind: str, *, trust_pickle: bool = False) -> Table:
    """NATS-Bench through its authors' package (`pip install evonas[nats]`): `full_*` and `cheap_*` test accuracies.

    Args:
        path: the unpacked archive (`NATS-tss-v1_0-3ffb9-simple` or `NATS-sss-v1_0-50262-simple`).
        kind: "topology" (200 and 12 epochs) or "size" (90 and 12 epochs).
        trust_pickle: the package unpickles the file, which runs code that is in it; say that you trust where you got it.

    Raises:
        UsageError: the kind is unknown, the file not trusted, or the package missing.
    """
    kinds = {"topology": ("tss", "200", cell_space()), "size": ("sss", "90", size_space())}
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


class OnceForAllSurrogate:
    """Once-for-all's released accuracy *predictor* for its MobileNetV3 space: no number it gives was measured on a network.

    Args:
        path: an .npz file with the weights W0..W3 and biases b0..b3 of the perceptron.
        resolution: of the images, 112 to 224 in steps of 16.
    """

    def __init__(self, path: str | Path, resolution: int = 224) -> None:
        arrays = _arrays(path, "W0")
        self._layers = [(arrays[f"W{i}"].astype(np.float64), arrays[f"b{i}"].astype(np.float64)) for i in range(4)]
        self._resolution = np.eye(8)[(resolution - 112) // 16]

    def __call__(self, population: Population) -> Floats:
        """Predicted ImageNet top-1 accuracy of every row."""
        kernels, expansions, active = _once_for_all_blocks(population)
        parts = [np.eye(3)[part] * active[..., None] for part in (kernels, expansions)]
        x = np.concatenate(
            [*(part.reshape(len(population), -1) for part in parts), np.tile(self._resolution, (len(population), 1))], axis=1
        )
        for i, (weight, bias) in enumerate(self._layers):
            x = x @ weight.T + bias
            x = np.maximum(x, 0) if i < len(self._layers) - 1 else x
        return np.asarray(x[:, 0])


def once_for_all_space() -> SearchSpace:
    """MobileNetV3 of once-for-all: depth 2 to 4 for each of five stages, kernel and expansion of every block; about 2e19 networks."""
    depths = [Choice(f"stage{s}.depth", ("2", "3", "4")) for s in range(5)]
    kernels = [Choice(f"stage{s}.block{b}.kernel", ("3", "5", "7")) for s in range(5) for b in range(4)]
    expansions = [Choice(f"stage{s}.block{b}.expansion", ("3", "4", "6")) for s in range(5) for b in range(4)]

    def canonical(population: Population) -> Population:
        """Blocks beyond the depth read their first options."""
        _, _, active = _once_for_all_blocks(population)
        return population * np.concatenate([np.ones((len(population), 5), dtype=np.int64), active, active], axis=1)

    return SearchSpace(tuple(depths + kernels + expansions), canonicalise=canonical)


class OnceForAllLatency:
    """Latency of once-for-all networks as the sum of measured blocks of one device (its authors' tables), in ms.

    Args:
        blocks: `{key: [mean, ...]}` for one resolution, with keys such as
            `expanded_conv-input:56x56x32-output:28x28x48-expand:96-kernel:3-stride:2-idskip:0-se:1-hs:0`.
    """

    unit = "ms"

    def __init__(self, blocks: Mapping[str, Sequence[float]]) -> None:
        shapes: dict[tuple[int, int], dict[tuple[int, int], float]] = {}
        self.constant = 0.0
        for key, (mean, *_) in blocks.items():
            parts = dict(part.split(":") for part in key.split("-")[1:])
            if "expand" not in parts or parts["expand"] == "24":  # stem, first block, head
                self.constant += mean
                continue
            shape = shapes.setdefault((_width(parts["input"]), _width(parts["output"])), {})
            shape[int(parts["kernel"]), int(parts["expand"])] = mean
        firsts = list(itertools.pairwise(ONCE_FOR_ALL_WIDTHS))
        others = [(width, width) for width in ONCE_FOR_ALL_WIDTHS[1:]]
        if set(shapes) != {*firsts, *others}:
            raise UsageError(f"The blocks have widths {sorted(shapes)}; once-for-all's MobileNetV3 has {sorted({*firsts, *others})}.")
        self._first, self._other = (np.stack([_by_option(shapes[ends]) for ends in part]) for part in (firsts, others))

    def __call__(self, population: Population) -> Floats:
        """Milliseconds of every row."""
        kernels, expansions, active = (part.reshape(-1, 5, 4) for part in _once_for_all_blocks(population))
        stages = np.arange(5)
        total = self._first[stages, kernels[..., 0], expansions[..., 0]].sum(axis=1) + self.constant
        for block in range(1, 4):
            total += (self._other[stages, kernels[..., block], expansions[..., block]] * active[..., block]).sum(axis=1)
        return np.asarray(total)


def once_for_all_latency(path: str | Path, device: str = "ofa_mbv3_note10_ms", resolution: int = 224) -> OnceForAllLatency:
    """The latency table of `device` at `resolution` out of a JSON file `{device: {resolution: {key: [mean, ...]}}}`, gzipped or not."""
    content = _json(path)
    if device not in content:
        raise unknown("device", device, content)
    if str(resolution) not in content[device]:
        raise unknown("resolution", str(resolution), content[device])
    return OnceForAllLatency(content[device][str(resolution)])


def _once_for_all_blocks(population: Population) -> tuple[Population, Population, Population]:
    """Kernel options, expansion options and activity (0 or 1) of the twenty blocks: each of shape (n, 20)."""
    depth = 2 + population[:, :5]
    active = (np.arange(4) < depth[..., None]).reshape(len(population), 20)
    return population[:, 5:25], population[:, 25:45], active.astype(np.int64)


def _by_option(block: Mapping[tuple[int, int], float]) -> Floats:
    kernels, widths = (sorted({key[i] for key in block}) for i in (0, 1))
    return np.array([[block[kernel, width] for width in widths] for kernel in kernels])


def _width(shape: str) -> int:
    return int(shape.split("x")[2])


def _arrays(path: str | Path, needed: str) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read {path}: {error}. Expected an .npz file with {needed!r}.") from error
    if needed not in content:
        raise UsageError(f"{path} has no array {needed!r}; it has: {', '.join(content)}.")
    return content


def _json(path: str | Path) -> dict[str, Any]:
    try:
        content = Path(path).read_bytes()
        parsed: dict[str, Any] = json.loads(gzip.decompress(content) if str(path).endswith(".gz") else content)
        return parsed
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read {path}: {error}. Expected a JSON file.") from error
