"""Causes of the optimisation gap, each measured with it present and with it removed: the same networks, the same truth, two taus.

The causes are those that Xie et al., "Weight-Sharing Neural Architecture Search: A Battle to Shrink the Optimization Gap", 2020, arXiv
2008.01475, sort the literature by (the grouping here is ours): A, the supernet's own training (fairness among paths); B,
discretisation; C, the difference between the networks that are ranked and those that are wanted; D, the size of the space; E, stale
batch-norm statistics and weights.

Every test trains what it needs through `Bench.train`, with the same epochs, data and seed as the supernet that is examined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from evonas.diagnosis import Cause, Truth, compared
from evonas.ranking import Floats, tau, true_rank
from evonas.space import Population, SearchSpace
from supernet.blocks import Mixture
from supernet.chain import ChainSupernet
from supernet.data import ImageData, TensorPart
from supernet.evaluation import accuracy, recalibrate
from supernet.fine_tuning import FineTunedFitness
from supernet.fitness import InheritedFitness
from supernet.training.fair import FairPaths
from supernet.training.mixture import Mixtures, draw_gates
from supernet.training.uniform import UniformPaths
from supernet.training.way import Way

PATHS_COMPARED = 16
CALIBRATION_IMAGES = 512


class Train(Protocol):
    """Trains a supernet in place."""

    def __call__(self, name: str, supernet: ChainSupernet, way: Way, *, scale: float = 1.0) -> None:
        """The name tells trainings apart; `scale` multiplies the number of epochs."""


@dataclass(frozen=True)
class Bench:
    """What the tests of causes share.

    Attributes:
        make: a fresh supernet, always with the same initial weights.
        trained: the supernet that is examined, trained by uniform or by fair paths.
        fair: whether by fair ones.
        steps: it was trained for.
        train: trains a supernet for as long.
        images: scores are on *search*, everything else uses *train*.
        truth: of the networks.
        device: where to compute.
    """

    make: Callable[[], ChainSupernet]
    trained: ChainSupernet
    fair: bool
    steps: int
    train: Train
    images: ImageData
    truth: Truth
    device: torch.device

    def calibration(self) -> TensorPart:
        """The images that batch-norm statistics are taken from."""
        return self.images.train.head(CALIBRATION_IMAGES)

    def scores(self, supernet: ChainSupernet, population: Population | None = None) -> Floats:
        """Accuracies with shared weights, recalibrated: of all networks of the truth unless told otherwise."""
        fitness = InheritedFitness(supernet, self.images.search, self.calibration(), device=self.device)
        return fitness(self.truth.population if population is None else population)

    @cached_property
    def shared(self) -> Floats:
        """The scores of `trained`, made once for all tests."""
        return self.scores(self.trained)

    def tau(self, scores: Floats) -> float:
        """With the truth."""
        return tau(scores, self.truth.mean)


def fairness(bench: Bench) -> Cause:
    """A. Chance trains some options more than others; strict fairness gives every option as many steps.

    A fair step runs as many paths over its batch as there are options, so the fair supernet gets that many times fewer steps, and both
    run as many paths. Where equal networks share a path (`space.canonical`), which fair paths leave out to keep their balance, uniform
    paths leave it out here as well. Details: how often such trainings train an option, as expected for as many steps, and how far the
    gradients of two paths agree on what they share.
    """
    space = bench.trained.space
    paths = max(len(options) for options in space.allowed)
    trained: dict[str, ChainSupernet] = {}
    if bench.fair:
        trained["fair"] = bench.trained
    elif space.canonicalise is None:
        trained["uniform"] = bench.trained
    scales = {"uniform": float(paths) if bench.fair else 1.0, "fair": 1.0 if bench.fair else 1 / paths}
    for name, way in (("uniform", UniformPaths()), ("fair", FairPaths())):
        if name not in trained:
            trained[name] = bench.make()
            trained[name].space = replace(space, canonicalise=None)
            bench.train(f"fairness-{name}", trained[name], way, scale=scales[name])
    steps, raw = bench.steps * paths if bench.fair else bench.steps, replace(space, canonicalise=None)
    updates = {"uniform": updates_of(UniformPaths(), raw, steps), "fair": updates_of(FairPaths(), raw, steps // paths)}
    cosine = gradient_cosine(bench.trained, bench.images.train.head(128), bench.device)
    return compared(
        "A fairness",
        ("uniform paths", bench.shared if trained["uniform"] is bench.trained else bench.scores(trained["uniform"]), bench.truth.mean),
        (
            f"strictly fair, {paths} paths a step",
            bench.shared if trained["fair"] is bench.trained else bench.scores(trained["fair"]),
            bench.truth.mean,
        ),
        {"updates": updates, "gradient_cosine": cosine},
    )


def discretisation(bench: Bench, mixtures: int = 16) -> Cause:
    """B. Weights are trained as a mixture and used as a path. (Mixtures know nothing of equal networks; where there are some, that is
    part of the difference.)

    Details: accuracy of random mixtures and of the path that keeps the heaviest option of each, with the same weights of the
    mixture-trained supernet, and the mean entropy of those gates in bits.
    """
    supernet = bench.make()
    bench.train("discretisation", supernet, Mixtures())
    rng, space = np.random.default_rng(0), supernet.space
    gates = [draw_gates(space, rng, bench.device) for _ in range(mixtures)]
    kept = np.array([[int(g.argmax()) for g in gate] for gate in gates])
    mixed = [_mixture_accuracy(supernet, gate, bench) for gate in gates]
    entropy = [float(-(g * g.clamp_min(1e-12).log2()).sum()) for gate in gates for g in gate]
    return compared(
        "B discretisation",
        ("trained as random mixtures", bench.scores(supernet), bench.truth.mean),
        ("trained as single paths", bench.shared, bench.truth.mean),
        {
            "mixture_accuracy": float(np.mean(mixed)),
            "path_accuracy": float(bench.scores(supernet, kept).mean()),
            "entropy_bits": float(np.mean(entropy)),
        },
    )


def configuration(bench: Bench, rows: np.ndarray, alone: Floats) -> Cause:
    """C. What is ranked is not what is wanted: other images, other epochs, another depth.

    Args:
        bench: as in all tests.
        rows: some networks of the truth, shape (m,).
        alone: their accuracies when trained on their own in the supernet's configuration, shape (m,).
    """
    shared = bench.shared[rows]
    return compared(
        "C configuration",
        ("shared weights against the truth", shared, bench.truth.mean[rows]),
        ("shared weights against training alone in the supernet's configuration", shared, alone),
        {"alone_against_truth": tau(alone, bench.truth.mean[rows])},
    )


def space_size(bench: Bench) -> Cause:
    """D. Fewer networks share the weights: a supernet of the sub-space in which the first choices take the options of the best network.

    Half of the choices are fixed; fewer when that leaves less than ten known networks, or when equal networks under other names would
    lead out of the sub-space.
    """
    space, scores = bench.trained.space, bench.shared
    best, rng = bench.truth.population[scores.argmax()], np.random.default_rng(0)
    options = space.to_names(best)
    for count in range(max(len(space) // 2, 1), 0, -1):
        inside = (bench.truth.population[:, :count] == best[:count]).all(axis=1)
        narrow = space.narrow({name: [options[name]] for name in space.names[:count]})
        if inside.sum() >= 10 and narrow.contains(narrow.sample(256, rng)).all():
            break
    narrowed = bench.make()
    narrowed.space = narrow
    bench.train("space-size", narrowed, FairPaths() if bench.fair else UniformPaths())
    small, truth = bench.scores(narrowed, bench.truth.population[inside]), bench.truth.mean[inside]
    return compared(
        "D size of the space",
        (f"all {len(space)} choices free", scores[inside], truth),
        (f"the first {count} choices fixed", small, truth),
        {
            "share_of_space": float(np.prod([1 / len(options) for options in space.allowed[:count]])),
            "best_rank": {"present": true_rank(scores[inside], truth, 1), "removed": true_rank(small, truth, 1)},
        },
    )


def stale_statistics(bench: Bench) -> Cause:
    """E. Batch-norm statistics of all paths together, or of each network (recalibrated)."""
    running = InheritedFitness(bench.trained, bench.images.search, None, device=bench.device)(bench.truth.population)
    recalibrated = bench.shared
    return compared(
        "E stale statistics",
        ("running statistics", running, bench.truth.mean),
        ("recalibrated", recalibrated, bench.truth.mean),
        {"mean_accuracy": {"present": float(running.mean()), "removed": float(recalibrated.mean())}},
    )


def stale_weights(bench: Bench, rows: np.ndarray, steps: Sequence[int] = (5, 20)) -> Cause:
    """E. Weights that other networks have moved, or moved back by a few steps of each network's own.

    Args:
        bench: as in all tests.
        rows: some networks of the truth, shape (m,): each is trained for each number of steps.
        steps: ascending; the last is the one compared. Those that need more images than there are, are left out.
    """
    steps = [n for n in steps if n * 64 <= len(bench.images.train)] or [1]
    networks, truth = bench.truth.population[rows], bench.truth.mean[rows]
    scores = {0: bench.shared[rows]}
    for n in steps:
        fitness = FineTunedFitness(bench.trained, bench.images.search, bench.images.train, steps=n, device=bench.device)
        scores[n] = fitness(networks)
    taus = {str(n): tau(found, truth) for n, found in scores.items()}
    return compared(
        "E stale weights",
        ("inherited weights", scores[0], truth),
        (f"after {steps[-1]} steps of its own", scores[steps[-1]], truth),
        {"tau_after_steps": taus},
    )


def by_letter(
    bench: Bench, compared_alone: np.ndarray, alone: Callable[[], Floats], fine_tuned: np.ndarray
) -> dict[str, list[Callable[[], Cause]]]:
    """Everything that can be measured, by the letter of its cause.

    Args:
        bench: as in all tests.
        compared_alone: networks of the truth that are trained in the supernet's configuration, for C.
        alone: gives their accuracies; asked only where C is measured.
        fine_tuned: networks that take steps of their own, for E.
    """
    return {
        "A": [lambda: fairness(bench)],
        "B": [lambda: discretisation(bench)],
        "C": [lambda: configuration(bench, compared_alone, alone())],
        "D": [lambda: space_size(bench)],
        "E": [lambda: stale_statistics(bench), lambda: stale_weights(bench, fine_tuned)],
    }


def updates_of(way: UniformPaths | FairPaths, space: SearchSpace, steps: int) -> dict[str, float]:
    """How often options are trained in so many steps of a way, by drawing as many paths.

    Returns:
        The fewest and the most of any option, and the mean over the choices of their spread (standard deviation over mean).
    """
    rng = np.random.default_rng(0)
    population = np.concatenate([way.paths(space, rng) for _ in range(steps)])
    counts = [np.array([(population[:, i] == option).sum() for option in options]) for i, options in enumerate(space.allowed)]
    return {
        "fewest": float(min(count.min() for count in counts)),
        "most": float(max(count.max() for count in counts)),
        "spread": float(np.mean([count.std() / count.mean() for count in counts])),
    }


def gradient_cosine(supernet: ChainSupernet, part: TensorPart, device: torch.device) -> dict[str, float]:
    """Cosine between the gradients of two random paths on the parameters that both use: mean, and share of negative ones.

    Every pair of at most 16 different paths; the same batch for all.
    """
    images, labels = next(part.batches(len(part), device))
    supernet.to(device).train()
    kept = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    gradients: list[dict[str, Tensor]] = []
    paths = np.unique(supernet.space.sample(PATHS_COMPARED, np.random.default_rng(0)), axis=0)
    for path in paths:
        supernet.zero_grad(set_to_none=True)
        cross_entropy(supernet(images, path).float(), labels).backward()
        gradients.append({name: p.grad for name, p in supernet.named_parameters() if p.grad is not None})
    supernet.zero_grad(set_to_none=True)
    for name, buffer in supernet.named_buffers():
        buffer.copy_(kept[name])
    supernet.eval()
    cosines = []
    for one, other in combinations(gradients, 2):
        both = one.keys() & other.keys()
        flat = [torch.cat([gradient[name].flatten() for name in sorted(both)]) for gradient in (one, other)]
        cosines.append(float(cosine_similarity(flat[0], flat[1], dim=0)))
    if len(paths) < 2:
        return {"paths": float(len(paths))}
    return {"paths": float(len(paths)), "mean": float(np.mean(cosines)), "negative": float(np.mean(np.array(cosines) < 0))}


class _Mixture(nn.Module):
    """One mixture as a plain network."""

    def __init__(self, supernet: ChainSupernet, gates: list[Tensor]) -> None:
        super().__init__()
        self.supernet, self.gates = supernet, Mixture(gates)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.supernet(x, self.gates))


def _mixture_accuracy(supernet: ChainSupernet, gates: list[Tensor], bench: Bench) -> float:
    network = _Mixture(supernet, gates)
    kept = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    recalibrate(network, bench.calibration().batches(128, bench.device))
    found = accuracy(network, bench.images.search, bench.device)
    for name, buffer in supernet.named_buffers():
        buffer.copy_(kept[name])
    return found
