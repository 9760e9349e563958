"""Fitness: accuracy with inherited weights, of a whole population at once, sharing what candidates have in common.

Batch-norm statistics are recalibrated for every candidate on a fixed set of training images (Guo et al., 2019, arXiv
1904.00420, section 3.4; cumulative means instead of the official code's moving average, and the same images for all, which
the official code does not keep). Two candidates that agree on their first blocks compute the same activations and the same
statistics there. The population is therefore sorted and walked depth-first as a trie, with one stack of activations: every
shared prefix is computed once, and the results are those of the candidate-by-candidate loop (`score_one_by_one`, the
reference that tests compare with). What an ensemble says is the mean of its members, which are walked instead, each once for all
ensembles that have it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from evonas.errors import UsageError
from evonas.space import Population
from supernet.chain import ChainSupernet
from supernet.data import Part
from supernet.device import autocast, place
from supernet.evaluation import left_as_it_was, only_norms_train, recalibrate

Statistics = list[tuple[Tensor, Tensor]]
T = TypeVar("T")

MOST_LOGITS_AT_ONCE = 1 << 25  # of ensembles, whose members are kept apart until they are put together
MOST_ROWS_AT_ONCE = 1024  # bounds the memory of the statistics of all nodes of one walk


class InheritedFitness:
    """Scores a population with the weights of a trained supernet.

    Args:
        supernet: in whatever mode; it is left as it was found.
        search: the images that scores are measured on, all of them for every candidate.
        calibration: training images that batch-norm statistics are taken from, in batches of `calibration_batch`. None takes the
            running statistics as training left them, which belong to no candidate: what a study of the gap compares with.
        batch_size: images scored at once; halved, with a warning, when memory runs out (scores do not depend on it).
        calibration_batch: images whose statistics are taken together; scores do depend on it, so it is never changed.
        device: where to compute.
    """

    def __init__(
        self,
        supernet: ChainSupernet,
        search: Part,
        calibration: Part | None,
        *,
        batch_size: int = 500,
        calibration_batch: int = 128,
        device: torch.device | None = None,
    ) -> None:
        self.supernet = supernet
        self.search = search
        self.calibration = calibration
        self.batch_size = batch_size
        self.calibration_batch = calibration_batch
        self.device = device or torch.device("cpu")

    def __call__(self, population: Population) -> npt.NDArray[np.float64]:
        """Accuracy in [0, 1] on the search images: shape (n,)."""
        return self.both(population)[0]

    def likelihood(self, population: Population) -> npt.NDArray[np.float64]:
        """Mean log-likelihood of the search images' labels in nats (minus the cross-entropy), at most 0: shape (n,).

        A fitness as well. It tells networks apart that classify the same number of images right, and ranked all networks better than
        accuracy in every supernet of NAS-Bench-Macro (docs/evidence.md).
        """
        return self.both(population)[1]

    def both(self, population: Population) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Accuracy and likelihood from one walk, each of shape (n,)."""
        if not self.supernet.ensembles:
            sums = np.concatenate([np.zeros((0, 2)), *self._map(population, self._sums)])[self._inverse(population)]
        else:
            at_once = max(1, MOST_LOGITS_AT_ONCE // (len(self.search) * self.supernet.classes))
            chunks = [population[start : start + at_once] for start in range(0, len(population), at_once)]
            sums = np.concatenate([np.zeros((0, 2)), *map(self._sums_of_ensembles, chunks)])
        return sums[:, 0] / len(self.search), sums[:, 1] / len(self.search)

    def logits(self, population: Population) -> Tensor:
        """Logits on the search images, shape (n, images, classes): what comparisons look at."""
        if self.supernet.ensembles:
            apart = self.supernet.singles(population)
            inner = copy.copy(self)
            inner.supernet = apart.chain
            members = inner.logits(apart.rows)
            return torch.stack([members[torch.from_numpy(each)].mean(0) for each in apart.which])
        found = torch.cat(list(self._map(population, self._logits)))
        return found[torch.from_numpy(self._inverse(population))]

    def _sums_of_ensembles(self, population: Population) -> npt.NDArray[np.float64]:
        found = self.logits(population)
        labels = torch.cat([labels.cpu() for _, labels in self.search.batches(self.batch_size, self.device)])
        right = [float((logits.argmax(1) == labels).sum()) for logits in found]
        likelihood = [-float(cross_entropy(logits, labels, reduction="sum")) for logits in found]
        return np.array([right, likelihood]).T

    def _inverse(self, population: Population) -> npt.NDArray[np.int64]:
        return np.argsort(walk_order(self.supernet, population)[0])

    def _map(self, population: Population, measure: Callable[[Population, npt.NDArray[np.int64]], T]) -> Iterator[T]:
        order, _ = walk_order(self.supernet, population)
        place(self.supernet, self.device)
        for start in range(0, len(order), MOST_ROWS_AT_ONCE):
            rows = population[order[start : start + MOST_ROWS_AT_ONCE]]
            while True:
                try:
                    yield measure(rows, walk_order(self.supernet, rows)[1])
                    break
                except RuntimeError as error:
                    if not _out_of_memory(error):
                        raise
                    self._halve()

    def _halve(self) -> None:
        if self.batch_size <= 1:
            raise UsageError("Not enough memory to score a single image; expected room for one. Use a smaller space or a larger device.")
        self.batch_size //= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(f"out of memory: scoring goes on with batches of {self.batch_size} images (scores do not depend on it)", stacklevel=4)

    def _sums(self, rows: Population, shared: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """For every row, images classified right and log-likelihoods added up: shape (n, 2)."""
        sums = torch.zeros(len(rows), 2, dtype=torch.float64, device=self.device)
        with _borrowed(self.supernet), torch.no_grad(), autocast(self.device):
            statistics = self._statistics(rows, shared)
            for images, labels in self.search.batches(self.batch_size, self.device):
                for i, logits in enumerate(self._forward(images, rows, shared, statistics)):
                    sums[i, 0] += (logits.argmax(1) == labels).sum()
                    sums[i, 1] -= cross_entropy(logits.float(), labels, reduction="sum")
        return sums.cpu().numpy()

    def _logits(self, rows: Population, shared: npt.NDArray[np.int64]) -> Tensor:
        parts: list[list[Tensor]] = [[] for _ in rows]
        with _borrowed(self.supernet), torch.no_grad(), autocast(self.device):
            statistics = self._statistics(rows, shared)
            for images, _ in self.search.batches(self.batch_size, self.device):
                for i, logits in enumerate(self._forward(images, rows, shared, statistics)):
                    parts[i].append(logits.float().cpu())
        return torch.stack([torch.cat(part) for part in parts])

    def _statistics(self, rows: Population, shared: npt.NDArray[np.int64]) -> list[Statistics] | None:
        """`_calibrate`, refusing a batch that does not fit: halving it would change what scores mean."""
        if self.calibration is None:
            return None
        try:
            return self._calibrate(rows, shared, self.calibration)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            raise UsageError(
                f"Not enough memory for batch-norm statistics of {self.calibration_batch} images at once; scores depend on that number, "
                f"so it is not changed. Use a smaller calibration_batch from the start, or a larger device."
            ) from None

    def _calibrate(self, rows: Population, shared: npt.NDArray[np.int64], calibration: Part) -> list[Statistics]:
        """Statistics of every node of the trie, in the order in which the walk comes to them."""
        statistics: list[Statistics] = []
        only_norms_train(self.supernet)
        for number, (images, _) in enumerate(calibration.batches(self.calibration_batch, self.device)):
            node, stack = 0, [images]
            for row, keep in zip(rows, shared, strict=True):
                del stack[keep + 1 :]
                for module in self.supernet.active(row, keep):
                    layers = _norms(module)
                    if number == 0:
                        statistics.append([_fresh(layer) for layer in layers])
                    _attach(layers, statistics[node], momentum=1 / (number + 1))
                    stack.append(module(stack[-1]))
                    node += 1
        return statistics

    def _forward(
        self, images: Tensor, rows: Population, shared: npt.NDArray[np.int64], statistics: list[Statistics] | None
    ) -> Iterator[Tensor]:
        """The logits of every row, with the statistics of its nodes, or with those of the supernet."""
        self.supernet.eval()
        node, stack = 0, [images]
        for row, keep in zip(rows, shared, strict=True):
            del stack[keep + 1 :]
            for module in self.supernet.active(row, keep):
                if statistics is not None:
                    _attach(_norms(module), statistics[node])
                stack.append(module(stack[-1]))
                node += 1
            yield stack[-1]


def walk_order(supernet: ChainSupernet, population: Population) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The order of a depth-first walk, and how many leading blocks each row in it shares with the row before.

    Returns:
        order: positions in the population, shape (n,).
        shared: shape (n,), for the rows in that order; 0 for the first, the number of blocks for a repeated row.
    """
    columns = list(dict.fromkeys(column for columns in supernet.columns for column in columns))
    order = np.lexsort(population[:, columns[::-1]].T) if len(population) else np.zeros(0, np.int64)
    rows = population[order]
    same = np.ones((len(rows), len(supernet.columns)), dtype=bool)
    for block, reads in enumerate(supernet.columns):
        same[1:, block] = (rows[1:, reads] == rows[:-1, reads]).all(axis=1)
    same[:1] = False
    return order, np.logical_and.accumulate(same, axis=1).sum(axis=1)


def score_one_by_one(
    supernet: ChainSupernet,
    population: Population,
    search: Part,
    calibration: Part,
    *,
    batch_size: int = 500,
    calibration_batch: int = 128,
    device: torch.device | None = None,
) -> Tensor:
    """The reference: for each candidate recalibrate, then score; logits of shape (n, images, classes)."""
    device = device or torch.device("cpu")
    calibration_batches = list(calibration.batches(calibration_batch, device))
    search_batches = list(search.batches(batch_size, device))
    logits = []
    with _borrowed(supernet), torch.no_grad(), autocast(device):
        for row in population:
            path = nn.Sequential(*supernet.active(row))
            recalibrate(path, calibration_batches)
            path.eval()
            logits.append(torch.cat([path(images).float().cpu() for images, _ in search_batches]))
    return torch.stack(logits)


@lru_cache(maxsize=4096)
def _norms(module: nn.Module) -> tuple[_BatchNorm, ...]:
    """The batch-norm layers of a module, looked up once while it is in use. The module itself is the key and is held by it: blocks may
    compose modules for a single call, and the number of one that is gone soon belongs to another."""
    return tuple(layer for layer in module.modules() if isinstance(layer, _BatchNorm))


def _fresh(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Mean 0 and variance 1 in the shape of a layer's statistics."""
    return torch.zeros_like(cast(Tensor, layer.running_mean)), torch.ones_like(cast(Tensor, layer.running_var))


def _attach(layers: Sequence[_BatchNorm], statistics: Statistics, momentum: float | None = None) -> None:
    """Let the layers read (and, in training mode, update) these tensors instead of their own; nothing is copied."""
    for layer, (mean, variance) in zip(layers, statistics, strict=True):
        layer._buffers["running_mean"], layer._buffers["running_var"] = mean, variance
        layer._buffers["num_batches_tracked"] = None  # the momentum says it all, which spares a kernel a layer
        layer.momentum = momentum


@contextmanager
def _borrowed(supernet: ChainSupernet) -> Iterator[None]:
    """Lends the supernet's batch-norm layers; their statistics and every module's mode are put back at the end."""
    try:
        with left_as_it_was(supernet):
            yield
    finally:
        _norms.cache_clear()


def _out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
        or "not enough memory" in text
    )
