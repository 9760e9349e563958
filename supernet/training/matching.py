"""The matching network: which path of a board should teach a path, and how much; and the gradient that it learns from.

Peng et al., "Cream of the Crop", 2020, arXiv 2010.15821. From the difference between what a student and a teacher make of a few images
it gives a logit a teacher; the highest teaches, and rho = sigmoid(logit) weighs what it says. A good rho makes the student's next step
better on images that it was not trained on: one step of the student's weights is taken as if, and rho follows the gradient of the loss
after it.

That gradient has a closed form. With the loss (rho * KD + (2 - rho) * CE) / 2 and the step w' = w - xi * dloss/dw,

    d L(w') / d theta = -(xi / 2) * <dKD/dw - dCE/dw, dL(w')/dw'> * drho/dtheta

so that two gradients and a product of vectors do what the paper writes as a second derivative; a test compares with double backward.

Departures: the released code takes the teacher of the highest logit and the weight of another one, with the wrong sign; its virtual step
moves one parameter, by the wrong rate (issues 14, 25, 78 of its repository).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

CLIP = 1.0  # largest norm of the gradient


class Matching(nn.Module):
    """One linear layer on differences of probabilities; it begins without an opinion, at rho = 1/2 for every teacher.

    Args:
        classes: of the logits.
        images: how many images are compared.
        lr: of Adam.
    """

    def __init__(self, classes: int, images: int = 16, *, lr: float = 1e-4) -> None:
        super().__init__()
        self.layer = nn.Linear(classes * images, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self._optimizer = torch.optim.Adam(self.parameters(), lr)

    def logits(self, student: Tensor, teachers: Tensor) -> Tensor:
        """How well each teacher suits a student, shape (k,).

        Args:
            student: its probabilities on the images that are compared, shape (images, classes).
            teachers: those of the teachers, shape (k, images, classes).
        """
        return self.layer((student - teachers).flatten(1))[:, 0]

    def learn(self, coefficient: float, rho: Tensor) -> None:
        """One step, where d L / d theta = coefficient * d rho / d theta."""
        found = torch.autograd.grad(coefficient * rho, list(self.parameters()))
        for parameter, gradient in zip(self.parameters(), found, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.parameters(), CLIP)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's, beside the layer."""
        return {"optimizer": self._optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See `get_extra_state`."""
        self._optimizer.load_state_dict(state["optimizer"])


def closed_form(
    parameters: Sequence[nn.Parameter],
    losses: Callable[[], tuple[Tensor, Tensor]],
    validation: Callable[[], Tensor],
    rho: float,
    xi: float,
    *,
    convex: bool = True,
) -> float:
    """d L(w') / d rho, where w' are the weights after a step on the student's loss; the weights are left as they were, to the bit.

    Args:
        parameters: the student's weights.
        losses: gives its loss by the teacher and its loss by the labels.
        validation: gives the loss on other images, with the weights as they are then.
        rho: the weight of the teacher.
        xi: the rate of the step.
        convex: the loss is (rho * KD + (2 - rho) * CE) / 2; otherwise CE + rho * KD.
    """
    taught, labelled = losses()
    by_teacher = torch.autograd.grad(taught, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True)
    by_labels = torch.autograd.grad(labelled, list(parameters), allow_unused=True, materialize_grads=True)
    shares = (rho / 2, 1 - rho / 2) if convex else (rho, 1.0)
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, one, other in zip(parameters, by_teacher, by_labels, strict=True):
                parameter.sub_(xi * (shares[0] * one + shares[1] * other))
        after = torch.autograd.grad(validation(), list(parameters), allow_unused=True, materialize_grads=True)
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
    direction = [(one - other) / 2 if convex else one for one, other in zip(by_teacher, by_labels, strict=True)]
    return -xi * float(sum((one * gradient).sum() for one, gradient in zip(direction, after, strict=True)))
