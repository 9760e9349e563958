"""What an edge of a cell chooses from: an operator, or an operator and, as a factor of its own, the activation function inside of it.

`FactorizedEdge` is the edge of Wang et al., "Scalable NAS with Factorizable Architectural Parameters", 2019, arXiv 1912.13256: M operators
and N activations are M * N composite operators with M + N weights. No code of it is public; the forms of a mixture are derived:

  pre         what arrives goes through the mixture of activations once, and the result through M operators
  post        the sum of M operators goes through the mixture of activations
  post-exact  every operator's result goes through every activation
  full        every composite operator by itself: M * N convolutions, what factors are meant to save

Decided: operators without a convolution before which there is an activation (pooling, skip connections, "none") take none, whatever was
chosen; in a separable convolution both activations are the chosen one. Which form the paper used is open; `pre` is the default, since the
operators of DARTS begin with their activation and a derived network is then a network of DARTS with other functions in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from evonas.errors import unknown
from evonas.space import Choice, Population, SearchSpace
from supernet.activations import ActivationPool
from supernet.blocks import mixed, registered

ONLY_RELU = ("relu",)
FORMS = ("pre", "post", "post-exact", "full")


class OperatorEdge(nn.ModuleDict):
    """An edge with one choice, its operator.

    Args:
        options: by name, in the order of the choice; None cuts the edge.
    """

    def __init__(self, options: Mapping[str, nn.Module | None]) -> None:
        super().__init__(dict(registered({name: module for name, module in options.items() if module is not None}).items()))
        self.offered: tuple[tuple[str, ...], ...] = (tuple(options),)
        self.options = tuple(options.values())

    def chosen(self, operator: int) -> nn.Module | None:
        """The operator of an option; None where it cuts the edge."""
        return self.options[operator]

    def mixture(self, x: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum of the operators that are there, one of which has to weigh something."""
        return mixed(x, [option for option in self.options if option is not None], of_those_there(self, weights))


class FactorizedEdge(nn.Module):
    """An edge with two choices, its operator and the activation function of that.

    Args:
        operators: by name, in the order of the first choice; None cuts the edge. Those that are a sequence and begin with a ReLU take the
            chosen activation in place of every ReLU.
        activations: out of `supernet.activations.ACTIVATIONS`, in the order of the second choice.
        form: of a mixture, see the module; with "post" and "post-exact" activations follow convolutions in every network.

    Raises:
        UsageError: an unknown form or activation.
    """

    def __init__(self, operators: Mapping[str, nn.Module | None], activations: Sequence[str], form: str = "pre") -> None:
        super().__init__()
        if form not in FORMS:
            raise unknown("form", form, FORMS)
        self.form = form
        self.offered = (tuple(operators), tuple(activations))
        self.outer = ActivationPool(activations)  # before or after an operator: the same for all of them
        there = {
            name: _Segments(module, activations) if takes_activation(module) else module
            for name, module in operators.items()
            if module is not None
        }
        self.operators = registered(there)
        self.options: tuple[nn.Module | None, ...] = tuple(there.get(name) for name in operators)

    def chosen(self, operator: int, activation: int) -> nn.Module | None:
        """The operator with an activation; None where it cuts the edge."""
        option = self.options[operator]
        if not isinstance(option, _Segments):
            return option
        outer = self.outer[activation]
        inner = option.with_activation(activation)
        return nn.Sequential(*inner, outer) if self.form.startswith("post") else nn.Sequential(outer, *inner)

    def mixture(self, x: Tensor, weights: Tensor, activations: Tensor) -> Tensor:
        """The weighted sum of all operators that are there, with all activations."""
        weighed = zip(weights, self.options, weights.tolist(), strict=True)
        kept = [(weight, option) for weight, option, value in weighed if option is not None and value != 0]
        active = [(weight, option) for weight, option in kept if isinstance(option, _Segments)]
        made = [weight * option(x) for weight, option in kept if not isinstance(option, _Segments)]
        if active and self.form == "full":
            for n, (share, value) in enumerate(zip(activations, activations.tolist(), strict=True)):
                if value != 0:
                    made += [weight * share * nn.Sequential(self.outer[n], *option.with_activation(n))(x) for weight, option in active]
        elif active and self.form == "pre":
            entered = self.outer.mixed(x, activations)
            made += [weight * option.mixture(entered, activations) for weight, option in active]
        elif active:
            left = [(weight, option.mixture(x, activations)) for weight, option in active]
            if self.form == "post":
                made.append(self.outer.mixed(_sum([weight * value for weight, value in left]), activations))
            else:
                made += [weight * self.outer.mixed(value, activations) for weight, value in left]
        return _sum(made)


def edge_choices(op: str, operators: Sequence[str], activations: Sequence[str]) -> tuple[Choice, ...]:
    """The choices of an edge: its operator, named `op`, and its activation where there is more to choose than ReLU."""
    own = Choice(op, tuple(operators))
    return (own,) if tuple(activations) == ONLY_RELU else (own, Choice(f"{op.removesuffix('.op')}.activation", tuple(activations)))


def edge_options(
    operators: Mapping[str, nn.Module | None], activations: Sequence[str], form: str
) -> Mapping[str, nn.Module | None] | FactorizedEdge:
    """What an edge with the choices of `edge_choices` chooses from."""
    return operators if tuple(activations) == ONLY_RELU else FactorizedEdge(operators, activations, form)


def one_for_idle(population: Population, taking: npt.NDArray[np.bool_]) -> Population:
    """Edges with two choices, of which the second one matters only with some operators: the first activation for the others.

    Args:
        population: shape (n, 2 * edges).
        taking: which operators take an activation, shape (operators,).
    """
    rows = population.copy()
    rows[:, 1::2] = np.where(taking[population[:, ::2]], population[:, 1::2], 0)
    return rows


def edge_space(choices: Sequence[Choice], operators: Mapping[str, nn.Module | None], activations: Sequence[str]) -> SearchSpace:
    """The space of cells whose edges have the choices of `edge_choices`; `operators` are those of any edge."""
    if tuple(activations) == ONLY_RELU:
        return SearchSpace(tuple(choices))
    taking = np.array([takes_activation(operator) for operator in operators.values()])
    return SearchSpace(tuple(choices), canonicalise=partial(one_for_idle, taking=taking))


def of_those_there(edge: OperatorEdge | FactorizedEdge, weights: Tensor) -> Tensor:
    """Out of the weights of an edge's operators, those of operators that do not cut it."""
    return weights[[i for i, option in enumerate(edge.options) if option is not None]]


class _Segments(nn.Module):
    """A sequence that begins with a ReLU, cut at its ReLUs: pools of activations take their place, the first one the edge's."""

    def __init__(self, operator: nn.Module, activations: Sequence[str]) -> None:
        super().__init__()
        pieces: list[list[nn.Module]] = []
        for module in operator.children():
            if isinstance(module, nn.ReLU):
                pieces.append([])
            else:
                pieces[-1].append(module)
        self.pieces = nn.ModuleList(nn.Sequential(*piece) for piece in pieces)
        self.inner = nn.ModuleList(ActivationPool(activations) for _ in pieces[1:])

    def with_activation(self, activation: int) -> list[nn.Module]:
        """The modules one after another, without the edge's activation."""
        made: list[nn.Module] = [self.pieces[0]]
        for pool, piece in zip(self.inner, self.pieces[1:], strict=True):
            made += [cast(ActivationPool, pool)[activation], piece]
        return made

    def mixture(self, x: Tensor, activations: Tensor) -> Tensor:
        """With a mixture of activations between the pieces."""
        x = self.pieces[0](x)
        for pool, piece in zip(self.inner, self.pieces[1:], strict=True):
            x = piece(cast(ActivationPool, pool).mixed(x, activations))
        return x


def takes_activation(operator: nn.Module | None) -> bool:
    """Whether an operator begins with an activation, which may then be another one."""
    return isinstance(operator, nn.Sequential) and isinstance(operator[0], nn.ReLU)


def _sum(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
