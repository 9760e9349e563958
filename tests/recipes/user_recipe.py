"""A recipe of somebody's own in one file: a space, a way of training, a cost and the command. test_own_recipe.py copies it elsewhere.

Widths are bypassed or sliced: a block takes whatever channels arrive and hands on 4, 8 or 12, or is not there at all.
"""

from typing import Annotated

import numpy as np
import typer
from torch import nn

from evonas import Choice, EvolutionExplorer, SearchSpace
from predictors import macs, tabulate
from recipes import recipe
from recipes.runner.asked import AskedOneShot
from recipes.runner.one_shot import OneShot, one_shot
from recipes.runner.pages.one_shot import write_report
from supernet import load, pick_device
from supernet.blocks import Block, FixedBlock
from supernet.chain import ChainSupernet
from supernet.slicing import WideConv
from supernet.spaces import space
from supernet.training.paths import PathWay
from supernet.training.registry import way

WIDTHS = ("0", "4", "8", "12")  # "0" bypasses the block


class Sliced(nn.Module):
    """The leading part of a convolution, for the channels that arrive."""

    def __init__(self, weights, norms, width):
        super().__init__()
        self.weights, self.norm, self.width = weights, norms[str(width)], width

    def forward(self, x):
        return self.norm(self.weights.take(x, self.width, x.shape[1])).relu()


class BypassBlock(Block):
    """Reads a width, which also decides what the next block gets."""

    def __init__(self, name, choice, most):
        super().__init__(name, [choice.name], shaped_by=[choice.name])
        self.widths = [int(option) for option in choice.options]
        self.weights = WideConv(most, most, 3)
        self.norms = nn.ModuleDict({str(width): nn.BatchNorm2d(width) for width in self.widths if width})

    def active(self, *options):
        width = self.widths[options[0]]
        return Sliced(self.weights, self.norms, width) if width else nn.Identity()

    def extract(self, *options, input_shape):
        width, channels = self.widths[options[0]], input_shape[0]
        if not width:
            return nn.Identity()
        alone = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        alone.weight.data.copy_(self.weights.leading(width, channels))
        norm = nn.BatchNorm2d(width)
        norm.load_state_dict(self.norms[str(width)].state_dict())
        return nn.Sequential(alone, norm, nn.ReLU())


class AnyWidth(nn.Linear):
    """A classifier of as many features as arrive."""

    def forward(self, x):
        return nn.functional.linear(x.mean((2, 3)), self.weight[:, : x.shape[1]], self.bias)


class Head(FixedBlock):
    def extract(self, *options, input_shape):
        alone = nn.Linear(input_shape[0], self.module.out_features)
        alone.weight.data.copy_(self.module.weight[:, : input_shape[0]])
        alone.bias.data.copy_(self.module.bias)
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), alone)


@space("sliced", summary="widths that are sliced or bypassed")
def sliced(image_shape, classes, *, blocks=4, seed=0):
    choices = tuple(Choice(f"block{i}.width", WIDTHS) for i in range(blocks))
    stem = FixedBlock("stem", nn.Sequential(nn.Conv2d(image_shape[0], 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()))
    chain = [stem, *(BypassBlock(f"block{i}", choice, 12) for i, choice in enumerate(choices)), Head("head", AnyWidth(12, classes))]
    return ChainSupernet(SearchSpace(choices), chain, image_shape, seed=seed)


@way("ends", summary="the widest, the narrowest and a random path in every step", paper="Yu & Huang 2019, arXiv 1903.05134")
class Ends(PathWay):
    def paths(self, space, rng):
        ends = [[allowed[-1] for allowed in space.allowed], [allowed[0] for allowed in space.allowed]]
        return np.concatenate([np.array(ends), space.sample(1, rng)])


def written(module, input_shape):
    """Elements that a piece writes: none where it is bypassed."""
    return 0.0 if isinstance(module, nn.Identity) else float(module[0].weight.shape[0] * input_shape[1] * input_shape[2])


@recipe("sandwich", summary="sliced and bypassed widths", page=write_report)
def sandwich(asked: AskedOneShot, epochs: Annotated[int, typer.Option(help="Epochs of the supernet.", min=1)] = 10) -> None:
    """Search widths that are sliced or bypassed, under a bound on what blocks write (elements) or on MACs."""
    where, images = pick_device(asked.device), load(asked.data)
    supernet = sliced(images.image_shape, len(images.classes), seed=asked.seed)
    parts = supernet.parts()
    elements = tabulate(supernet.space, [part for part in parts if part.name.startswith("block")], written)
    training = {"epochs": epochs, "batch_size": 64, "seed": asked.seed, "device": where}
    job = OneShot(
        supernet=supernet,
        family="sliced",
        space={},
        way=Ends(),
        explorer=lambda limits: EvolutionExplorer(supernet.space, limits, seed=asked.seed),
        training=training,
        retraining=training,
        costs={"macs": macs(supernet.space, parts), "elements": elements},
        timed=False,
    )
    one_shot(job, images, asked)
