"""Shrinking a space while a supernet of it is trained, around any way of training.

Hu et al., "Angle-based Search Space Shrinking for Neural Architecture Search", 2020, arXiv 2004.13431 (ABS). After a first part of the
training, and again after every round, options are scored (`supernet.shrinking.operators`) and the worst are dropped, so that what is left
of the training goes into fewer operators and what searches afterwards has less to search.

Scores: "angle" (`supernet.shrinking.rotation`) is the paper's. "accuracy" and "likelihood" are those with inherited weights and
statistics of their own, on images set aside; "angle+accuracy" and "angle+likelihood" add ranks; "diversity" is how different an option is
from its siblings (`supernet.shrinking.diversity`), "diversity+likelihood" adds both in standard deviations of the choice, as Chen et al.,
2021, arXiv 2104.00597 (NEAS) do; "parameters", "entries", "magnitude" and "random" are what any of them has to beat (docs/evidence/abs.md,
docs/evidence/neas.md).

Departures: one round drops all, unless `every` says otherwise. Option by option, what is left of a choice is trained more and turns
further, so that later rounds keep what earlier ones favoured: on NAS-Bench-201 many rounds made the pick worse, and one made it better
(docs/evidence/abs.md). How many options each of several rounds drops follows from how small the space is to be at the end (the paper drops
seven a round until it is there: `drop=7`); the learning rate is the one schedule of the training, which rounds do not begin anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evonas.budget import Budget
from evonas.errors import UsageError, unknown
from evonas.sampling import draw_feasible
from evonas.space import Population, SearchSpace
from evonas.tables import tabulate
from supernet.data import Batch, Part
from supernet.evaluation import left_as_it_was
from supernet.fitness import InheritedFitness
from supernet.shrinking.diversity import diversity_of_options, sum_of_standardised
from supernet.shrinking.operators import Floats, mean_of_ranks, pool_of, scores_of_options, without_the_worst
from supernet.shrinking.rotation import Rotation, weights_now
from supernet.training.registry import way
from supernet.training.sandwich import weights
from supernet.training.uniform import UniformPaths
from supernet.training.way import Losses, Moment, Record, Way

DIVERSE = ("diversity", "diversity+likelihood")
BY_IMAGES = ("accuracy", "likelihood", "angle+accuracy", "angle+likelihood", *DIVERSE)
SCORES = ("angle", *BY_IMAGES, "parameters", "entries", "magnitude", "random")
HELD_OUT, SEARCHED, CALIBRATION = 0.1, 1000, 512
FEW = 30  # architectures of an option where each is scored on images


@way(
    "shrinking",
    summary="drops the options whose weights turned least",
    paper="Hu et al. 2020, arXiv 2004.13431",
    make=lambda s: Shrinking(),
)
class Shrinking(Way):
    """Another way of training, at the end of some of whose epochs the space shrinks.

    Args:
        inner: how the supernet is trained; uniform paths unless told otherwise.
        score: what an architecture is worth, one of `SCORES`.
        first: share of the epochs before the space shrinks for the first time.
        every: epochs between two rounds; a single one unless told otherwise.
        stop_size: architectures that are enough. 1 leaves a single one, and no search.
        drop: options a round; as many as bring the space evenly down to `stop_size` by the last epoch unless told otherwise.
        per_choice: drop the worst option of every choice in every round, as strictly fair paths need.
        least: options that every choice keeps.
        whole: choices that keep all of theirs.
        pool: architectures that hold an option, at least, from which it is scored; 1000 for what needs no images, 30 for what does.
        budget: that they keep.
        anchor_again_after: options dropped after which angles are measured from the weights of that moment, once; None never.
        seed: of the architectures drawn.

    Raises:
        UsageError: an unknown score, or a setting that makes no sense.
    """

    def __init__(
        self,
        inner: Way | None = None,
        *,
        score: str = "angle",
        first: float = 0.5,
        every: int | None = None,
        stop_size: float = 1e6,
        drop: int | None = None,
        per_choice: bool = False,
        least: int = 1,
        whole: Collection[str] = (),
        pool: int | None = None,
        budget: Budget | None = None,
        anchor_again_after: int | None = 50,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if score not in SCORES:
            raise unknown("score of shrinking", score, SCORES)
        if (
            not 0 <= first < 1
            or (every is not None and every < 1)
            or stop_size < 1
            or (drop is not None and drop < 1)
            or (pool is not None and pool < 1)
            or least < 1
        ):
            raise UsageError(
                f"Got first={first}, every={every}, stop_size={stop_size:g}, drop={drop}, least={least} and pool={pool}; expected a share "
                f"of the epochs below 1, and numbers of at least 1."
            )
        self.inner = inner or UniformPaths()
        self.score, self.first, self.every, self.stop_size = score, first, every, stop_size
        self.drop, self.per_choice, self.least, self.whole, self.seed = drop, per_choice, least, tuple(whole), seed
        self.pool = pool or (FEW if score in BY_IMAGES else 1000)
        self.budget, self.anchor_again_after = budget or Budget(), anchor_again_after
        self.held_out = max(self.inner.held_out, HELD_OUT if score in BY_IMAGES else 0.0)
        self._anchor: dict[str, Tensor] = {}
        self._dropped = 0
        self._told: dict[str, Any] | None = None  # of the round of this epoch

    def check(self, space: SearchSpace | None, epochs: int) -> None:
        """See `Way.check`."""
        self.inner.check(space, epochs)

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        if moment.step == 0:
            self._anchor = weights_now(network)
        return self.inner.step(network, batch, moment, rng)

    def after_step(self, network: Any, batch: Batch, held_out: Batch | None, moment: Moment, rng: np.random.Generator) -> None:
        """See `Way.after_step`."""
        self.inner.after_step(network, batch, held_out if self.inner.held_out else None, moment, rng)

    def end_of_epoch(self, network: Any, held_out: Part | None, moment: Moment) -> SearchSpace | None:
        """The space without its worst options, after the epochs that end a round; see `Way.end_of_epoch`."""
        self._told = None
        given = self.inner.end_of_epoch(network, held_out if self.inner.held_out else None, moment)
        space = network.space if given is None else given
        left = self._rounds_left(moment)
        if left is None or space.count() <= self.stop_size:
            return given
        rng = np.random.default_rng([self.seed, moment.epoch])
        with torch.random.fork_rng(devices=[]), left_as_it_was(network):  # modules that are made to be counted draw weights
            pool = pool_of(space, self.budget, self.pool, rng)
            scores = self._scored(network, space, held_out, rng)(pool)
            found = scores_of_options(space, pool, scores)
            if self.score in DIVERSE:
                diversity = diversity_of_options(self._inherited(network, held_out, CALIBRATION), space, rng)
                found = diversity if self.score == "diversity" else sum_of_standardised(found, diversity)
        size = math.exp(math.log(self.stop_size) + (math.log(space.count()) - math.log(self.stop_size)) * left / (left + 1))
        kept: dict[str, Any] = {"per_choice": self.per_choice, "least": self.least, "whole": self.whole}
        narrowed = without_the_worst(space, found, count=self.drop, size=size, **kept)
        while self.per_choice and self.every is None and narrowed.count() > self.stop_size:
            wider, narrowed = narrowed, without_the_worst(narrowed, found, **kept)
            if narrowed.allowed == wider.allowed:
                break  # nothing is left to drop
        if not len(draw_feasible(narrowed, self.budget, 1, rng)):
            return given  # what is left would keep no budget
        gone = sum(map(len, space.allowed)) - sum(map(len, narrowed.allowed))
        self._told = _told(space, narrowed, pool[scores.argmax()], float(scores.max()))
        before, self._dropped = self._dropped, self._dropped + gone
        if self.anchor_again_after is not None and before <= self.anchor_again_after < self._dropped:
            self._anchor = weights_now(network)
        return narrowed

    def record(self, network: Any, held_out: Part | None, moment: Moment) -> Record | None:
        """What the inner way records; or, after a round, the best architecture by the score, and what was dropped."""
        inner = self.inner.record(network, held_out if self.inner.held_out else None, moment)
        if self._told is None:
            return inner
        row, score, told = self._told["row"], self._told["score"], self._told["shrunk"]
        if inner is None:
            return Record(row, score, {"shrunk": told})
        return Record(inner.architecture, inner.score, {**inner.attributes, "shrunk": told})

    def get_extra_state(self) -> dict[str, Any]:
        """The weights that angles are measured from, and how many options are gone."""
        return {"anchor": self._anchor, "dropped": self._dropped}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See `get_extra_state`."""
        self._anchor, self._dropped = {name: value.cpu() for name, value in state["anchor"].items()}, state["dropped"]

    def _rounds_left(self, moment: Moment) -> int | None:
        """How many rounds come after the one that ends with this epoch; None where none does. The last epoch trains what is left."""
        begun, last = max(1, round(self.first * moment.epochs)), moment.epochs - 1
        ended = moment.epoch + 1
        every = self.every or moment.epochs
        if ended > last or ended < begun or (ended - begun) % every:
            return None
        return (last - ended) // every

    def _scored(self, network: Any, space: SearchSpace, held_out: Part | None, rng: np.random.Generator) -> Callable[[Population], Floats]:
        if self.score == "random":  # a number an option: of the mean over many architectures nothing random would be left
            numbers = [rng.random(len(choice.options)) for choice in space.choices]
            return lambda population: np.sum([each[column] for each, column in zip(numbers, population.T, strict=True)], axis=0)
        if self.score == "parameters":
            return tabulate(space, network.parts(), weights)
        if self.score not in ("entries", "magnitude") and not self.score.startswith("angle"):
            fitness = self._inherited(network, held_out, SEARCHED)
            return fitness if self.score == "accuracy" else fitness.likelihood
        rotation = Rotation(network, self._anchor)
        if self.score in ("entries", "magnitude"):
            return rotation.entries if self.score == "entries" else rotation.magnitude
        if self.score == "angle":
            return rotation
        fitness = self._inherited(network, held_out, SEARCHED)
        return mean_of_ranks(rotation, fitness if self.score.endswith("accuracy") else fitness.likelihood)

    def _inherited(self, network: Any, held_out: Part | None, images: int) -> InheritedFitness:
        assert held_out is not None
        device = next(network.parameters()).device
        return InheritedFitness(network, held_out.head(images), held_out.head(CALIBRATION), device=device)


def _told(space: SearchSpace, narrowed: SearchSpace, best: Population, score: float) -> dict[str, Any]:
    """A round, for its record."""
    gone = {
        choice.name: [choice.options[option] for option in before if option not in after]
        for choice, before, after in zip(space.choices, space.allowed, narrowed.allowed, strict=True)
        if before != after
    }
    return {"row": tuple(best.tolist()), "score": score, "shrunk": {"networks": float(narrowed.count()), "dropped": gone}}
