"""SGD that leaves alone what a step did not use.

Parameters off a path have no gradient, and torch's SGD passes over them. A narrow path, though, uses the leading part of a wide weight,
whose gradient outside that part is zero and not absent: weight decay would shrink the rest, and momentum of earlier steps would move it.
Here both act on the part alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from supernet.slicing import WideConv, WideNorm


class PathSGD(torch.optim.SGD):
    """SGD with momentum and weight decay; of the weights of `wide`, only the parts used since `zero_grad` are touched.

    Args:
        groups: parameters, or groups of them with a weight decay (and a learning rate) each.
        lr: learning rate.
        momentum: positive.
        wide: convolutions and norms that paths use in parts.
    """

    def __init__(self, groups: Any, lr: float, momentum: float, wide: Iterable[WideConv | WideNorm] = ()) -> None:
        super().__init__(groups, lr=lr, momentum=momentum)
        self._wide = {id(parameter): layer for layer in wide for parameter in layer.parameters()}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step for all parameters that have a gradient. There is no use for a closure."""
        for group in self.param_groups:
            used = [p for p in group["params"] if p.grad is not None]
            for parameter in used:
                if self.state[parameter].get("momentum_buffer") is None:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            sgd(
                [self._part(p, p) for p in used],
                [self._part(p, p.grad) for p in used],
                [self._part(p, self.state[p]["momentum_buffer"]) for p in used],
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, and what was used."""
        super().zero_grad(set_to_none)
        for layer in self._wide.values():
            layer.forget()

    def _part(self, parameter: Tensor, tensor: Tensor) -> Tensor:
        layer = self._wide.get(id(parameter))
        return tensor if layer is None else layer.used_part(tensor)
