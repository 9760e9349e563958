"""Prioritised paths: the best paths that training has met teach the path of every step.

Peng et al., "Cream of the Crop: Distilling Prioritized Paths For One-Shot Neural Architecture Search", 2020, arXiv 2010.15821. A step
trains one uniform path by the labels and by a teacher from the board (`supernet.training.board`), which shares its weights and gets no
gradient; the matching network (`supernet.training.matching`) chooses the teacher and how much it says. Both learn from images that are
set aside: paths are offered to the board after their steps, and the matching network is moved every `every` steps.

Departures, where the released code has defects or images are few: what paths are compared by are 16 held-out images, the same for all, and
probabilities on them are taken anew at the end of every epoch, with accuracies of the whole board; of `OFFERED` steps the path that did
best on the images of its own step is offered, unless it did clearly worse there than the worst of the board, which saves most of the work;
nothing that only looks at paths moves batch-norm statistics; rho is a number in the student's loss, so that the matching network learns
from its own objective alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from evonas.budget import Budget, Cost
from evonas.space import Architecture
from evonas.tables import tabulate
from supernet.chain import ChainSupernet
from supernet.data import Batch, Part
from supernet.evaluation import left_as_it_was
from supernet.fitness import InheritedFitness
from supernet.training import team
from supernet.training.board import Board, Entry
from supernet.training.matching import Matching, closed_form
from supernet.training.registry import way
from supernet.training.sandwich import weights
from supernet.training.uniform import UniformPaths
from supernet.training.way import Losses, Moment, Record

MEASURED, CALIBRATION = 1000, 512  # held-out images of the board's accuracies at the end of an epoch
OFFERED = 4  # steps, one of whose paths is offered to a full board


def _for(supernet: ChainSupernet) -> PrioritisedPaths:
    return PrioritisedPaths(tabulate(supernet.space, supernet.parts(), weights), supernet.classes)


@way("prioritised", summary="the best paths so far teach the others", paper="Peng et al. 2020, arXiv 2010.15821", make=_for)
class PrioritisedPaths(UniformPaths):
    """Uniform paths that learn from a board of prioritised ones.

    Args:
        cost: complexity of a path, such as MACs.
        classes: of the logits.
        size: of the board (K).
        gap: see `Board`.
        warmup: share of the epochs without a board; the paper's 20 of 120.
        every: steps between two of the matching network (tau); the released configuration's.
        compared: held-out images that paths are compared by; the paper's 4 say little where classes are few.
        meta_lr: of the matching network.
        convex: the loss is (rho * KD + (2 - rho) * CE) / 2, as the released code's; otherwise CE + rho * KD, the paper's.
        held_out: share of the training images that board and matching network learn from.
        label_smoothing, budget: as in `UniformPaths`; the board holds only paths that were drawn.
    """

    def __init__(
        self,
        cost: Cost,
        classes: int,
        *,
        size: int = 10,
        gap: float = 0.05,
        warmup: float = 1 / 6,
        every: int = 200,
        compared: int = 16,
        meta_lr: float = 1e-4,
        convex: bool = True,
        held_out: float = 0.1,
        label_smoothing: float = 0.1,
        budget: Budget | None = None,
    ) -> None:
        super().__init__(label_smoothing=label_smoothing, budget=budget)
        self.held_out, self.warmup, self.every, self.compared, self.convex = held_out, warmup, every, compared, convex
        self._cost, self.board = cost, Board(size, gap)
        self.matching = Matching(classes, compared, lr=meta_lr)
        self._images = torch.zeros(0)  # that paths are compared by: the first of the held-out ones
        self._made = torch.zeros(0)  # what the board's paths make of them, shape (entries, images, classes)
        self._next: int | None = None  # step at which the matching network moves again
        self._student: Architecture | None = None
        self._hits = torch.zeros(())  # its accuracy on the images of its step
        self._best: tuple[Architecture, float] | None = None  # of the steps since a path was offered, and its accuracy there

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        images, labels = batch
        self.begin(moment)
        path = tuple(self.paths(self.opened(network.space, moment), rng)[0].tolist())
        self._student = path
        logits = network(images, path).float()
        self._hits = (logits.detach().argmax(1) == labels).float().mean()
        by_labels = cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        found = self.teacher(network, path, rng) if self._teaches(moment) else None
        if found is None:
            return {"teacher": by_labels.new_zeros(()), "labels": by_labels}
        teacher, rho = found
        with torch.no_grad(), untracked(network, teacher):
            taught = network(images, teacher).float().softmax(1)
        by_teacher = cross_entropy(logits, taught)
        shares = (rho / 2, 1 - rho / 2) if self.convex else (rho, 1.0)
        return {"teacher": shares[0] * by_teacher, "labels": shares[1] * by_labels}

    def teacher(self, network: Any, path: Architecture, rng: np.random.Generator) -> tuple[Architecture, float] | None:
        """Who teaches a path, and its weight rho; None where nobody does. The matching network's choice."""
        with torch.no_grad():
            found = self._matched(network, path)
        return None if found is None else (found[0], float(found[1]))

    def after_step(self, network: Any, batch: Batch, held_out: Batch | None, moment: Moment, rng: np.random.Generator) -> None:
        """The board is offered the path of the step, and the matching network moves; see `Way.after_step`."""
        assert held_out is not None
        if moment.epoch < int(self.warmup * moment.epochs):
            return
        if not len(self._images):
            self._images = held_out[0][torch.arange(self.compared) % len(held_out[0])]
        assert self._student is not None
        hits = team.mean(self._hits)
        if self._best is None or hits > self._best[1]:
            self._best = (self._student, hits)
        if not self.board.full or (moment.step + 1) % OFFERED == 0:
            self._offer(network, *self._best, held_out)
            self._best = None
        if self._next is None or moment.step >= self._next:  # the first time as soon as there is a teacher
            self._learn(network, held_out, moment)

    def end_of_epoch(self, network: Any, held_out: Part | None, moment: Moment) -> None:
        """The board is measured anew, with statistics of its paths' own, and what its paths make of the images that are compared."""
        assert held_out is not None
        self._best = None
        if not len(self.board):
            return
        rows = np.array([entry.path for entry in self.board.entries])
        device = next(network.parameters()).device
        images, calibration = held_out.head(MEASURED), held_out.head(CALIBRATION)
        with left_as_it_was(network):
            found = InheritedFitness(network, images, calibration, device=device)(rows)
            accuracies = dict(zip(map(tuple, rows.tolist()), found.tolist(), strict=True))
            self.board.measure(lambda path: float(accuracies[path]))
            network.train()
            self._made = torch.stack([self._makes(network, entry.path) for entry in self.board.entries])

    def record(self, network: Any, held_out: Part | None, moment: Moment) -> Record | None:
        """The best of the board, its accuracy on held-out images with statistics of its own, and the board."""
        if not len(self.board):
            return None
        best, names = self.board.entries[0], network.space.to_names
        board = [{"accuracy": entry.accuracy, "cost": entry.cost, "architecture": names(entry.path)} for entry in self.board.entries]
        return Record(best.path, best.accuracy, {"board": board})

    def get_extra_state(self) -> dict[str, Any]:
        """The board, the images that paths are compared by, and what the board's make of them."""
        return {"board": self.board.plain(), "images": self._images, "made": self._made, "next": self._next}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See `get_extra_state`."""
        self.board.restore(state["board"])
        self._images, self._made, self._next = state["images"], state["made"], state["next"]

    def _teaches(self, moment: Moment) -> bool:
        return moment.epoch >= int(self.warmup * moment.epochs) and len(self.board) > 0

    def _matched(self, network: Any, path: Architecture) -> tuple[Architecture, Tensor] | None:
        """The path of the board that suits a path best, and rho; None where no other is on the board."""
        logits = self.matching.logits(self._makes(network, path), self._on(network, self._made))
        others = [i for i, entry in enumerate(self.board.entries) if entry.path != path]
        if not others:
            return None
        best = max(others, key=lambda i: float(logits[i].detach()))
        return self.board.entries[best].path, logits[best].sigmoid()

    def _makes(self, network: Any, path: Architecture) -> Tensor:
        """Probabilities on the images that are compared, by their own batch's statistics."""
        with torch.no_grad(), untracked(network, path):
            return network(self._on(network, self._images), path).float().softmax(1)

    @staticmethod
    def _on(network: Any, value: Tensor) -> Tensor:
        return value.to(next(network.parameters()).device)

    def _offer(self, network: Any, path: Architecture, hits: float, held_out: Batch) -> None:
        if self.board.holds(path) or (self.board.full and hits < self.board.worst.accuracy - self.board.gap):
            return
        accuracy = _accuracy(network, path, held_out)
        against = _accuracy(network, self.board.worst.path, held_out) if self.board.full else None
        before = [entry.path for entry in self.board.entries]
        if self.board.offer(Entry(path, accuracy, float(self._cost(np.array([path]))[0])), against):
            known = dict(zip(before, self._on(network, self._made), strict=True)) | {path: self._makes(network, path)}
            self._made = torch.stack([known[entry.path] for entry in self.board.entries])

    def _learn(self, network: Any, held_out: Batch, moment: Moment) -> None:
        """A step of the matching network, for the path of the step and its teacher.

        One half of the images moves weights as if, the other judges; all of them are held out, the same in every process of a team.
        """
        assert self._student is not None
        student, half = self._student, len(held_out[0]) // 2
        if not len(self.board) or (found := self._matched(network, student)) is None:
            return
        self._next, (teacher, rho) = moment.step + self.every, found
        (images, labels), others = (part[:half] for part in held_out), tuple(part[half:] for part in held_out)
        with torch.no_grad():
            taught = network(images, teacher).float().softmax(1)

        def losses() -> tuple[Tensor, Tensor]:
            made = network(images, student).float()
            return cross_entropy(made, taught), cross_entropy(made, labels, label_smoothing=self.label_smoothing)

        def validation() -> Tensor:
            return cross_entropy(network(others[0], student).float(), others[1])

        used = {id(p): p for module in network.active(student) for p in module.parameters() if p.requires_grad}
        coefficient = closed_form(list(used.values()), losses, validation, float(rho.detach()), moment.lr, convex=self.convex)
        self.matching.learn(coefficient, rho)


@contextmanager
def untracked(network: Any, path: Architecture) -> Iterator[None]:
    """Within the block the batch norms of a path take the statistics of the batch and keep nothing of them."""
    norms = [layer for module in network.active(path) for layer in module.modules() if isinstance(layer, _BatchNorm)]
    tracking = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, tracked in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracked


def _accuracy(network: Any, path: Architecture, batch: Batch) -> float:
    with torch.no_grad(), untracked(network, path):
        return float((network(batch[0], path).argmax(1) == batch[1]).float().mean())
