"""Once-for-all's MobileNetV3 space with its accuracy surrogate and its latency tables: a search over 2e19 networks that costs nothing.

Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", 2019, arXiv 1908.09791. The latencies are
sums of measured blocks; the accuracies are a *surrogate's*, and so is everything found on them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError, unknown
from evonas.space import Choice, Population, SearchSpace
from evonas.tabular import read_arrays, read_json_file

Floats = npt.NDArray[np.float64]

WIDTHS = (24, 32, 48, 96, 136, 192)


class OnceForAllSurrogate:
    """Once-for-all's released accuracy *predictor* for its MobileNetV3 space: no number it gives was measured on a network.

    Args:
        path: an .npz file with the weights W0..W3 and biases b0..b3 of the perceptron.
        resolution: of the images, 112 to 224 in steps of 16.
    """

    def __init__(self, path: str | Path, resolution: int = 224) -> None:
        arrays = read_arrays(path, "W0")
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
        firsts = list(itertools.pairwise(WIDTHS))
        others = [(width, width) for width in WIDTHS[1:]]
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
    content = read_json_file(path)
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
