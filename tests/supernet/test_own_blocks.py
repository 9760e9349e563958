"""Spaces that somebody else writes: what is wrong with them is said before anything is trained, with the block's name."""

import numpy as np
import pytest
import torch
from torch import nn

from evonas import Choice, SearchSpace, UsageError
from predictors import macs
from supernet import CellBlock, ChainSupernet, ChoiceBlock, FixedBlock, PathsBlock, Residual, conv_bn
from supernet.blocks import Block
from supernet.initialisation import initialise
from supernet.spaces.registry import SPACES, supernet_of
from supernet.spaces.registry import space as supernet_space

IMAGE = (3, 8, 8)


def head(channels=4):
    return FixedBlock("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)))


def chain(options, names=None, last=None):
    choice = Choice("op", tuple(names or options))
    blocks = [FixedBlock("stem", conv_bn(3, 4, 3)), ChoiceBlock("middle", "op", options), *([head()] if last is None else last)]
    return ChainSupernet(SearchSpace((choice,)), blocks, IMAGE)


def convs(**more):
    return {"conv3": conv_bn(4, 4, 3), "conv5": conv_bn(4, 4, 5), **more}


@pytest.mark.parametrize("names", [("conv5", "conv3"), ("conv3",), ("conv3", "conv5", "skip")])
def test_options_that_are_not_those_of_the_choice_are_refused(names):
    with pytest.raises(UsageError, match=r"Block 'middle' offers conv3, conv5 for the choice 'op', whose options are .*same order"):
        chain(convs(), names)


def test_a_cell_and_paths_that_are_not_those_of_the_choices_are_refused():
    space = SearchSpace((Choice("a", ("x", "y")), Choice("b", ("x", "y"))))
    cell = CellBlock(
        "cell", ["a", "b"], [(0, 1), (1, 2)], [{"x": conv_bn(3, 3, 3), "y": nn.Identity()}, {"y": nn.Identity(), "x": nn.Identity()}]
    )
    with pytest.raises(UsageError, match=r"'cell' offers y, x for the choice 'b'"):
        ChainSupernet(space, [cell, head(3)], IMAGE)
    layers = nn.ModuleList([conv_bn(3, 3, 3) for _ in range(3)])
    paths = PathsBlock("paths", ["a", "b"], dict(zip([(0, 0), (0, 1), (1, 0)], layers, strict=True)), layers)
    with pytest.raises(UsageError, match=r"'paths' has modules for 3 combinations of options of a, b; expected 4"):
        ChainSupernet(space, [paths, head(3)], IMAGE)


@pytest.mark.parametrize("name", ["conv.3", "3.5x", "keys", "forward", ""])
def test_any_text_names_an_option(name):
    made = chain(convs(**{name: nn.Identity()}))
    row = made.space.from_names({"op": name})
    x = torch.randn(2, *IMAGE)
    assert torch.equal(made.eval()(x, row), made.subnet(row).eval()(x))
    again = chain(convs(**{name: nn.Identity()}))
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.eval()(x, row), made(x, row))


def test_weights_are_saved_under_the_names_of_options():
    assert "blocks.1.options.conv5.0.weight" in chain(convs()).state_dict()


def test_what_does_not_fit_is_named_with_its_block_and_option():
    wrong = chain(convs(wide=conv_bn(8, 4, 3)))
    with pytest.raises(UsageError, match=r"Block 'middle' with wide does not take what arrives, shape \(4, 8, 8\).*8 channels"):
        wrong.parts()
    with pytest.raises(UsageError, match="Block 'head' does not take what arrives"):
        chain(convs(), last=[head(5)]).parts()
    with pytest.raises(RuntimeError) as caught:
        wrong(torch.randn(2, *IMAGE), (2,))
    assert "block 'middle', which got a value of shape (4, 8, 8)" in caught.value.__notes__[0]


def test_options_of_other_shapes_are_refused_unless_that_is_meant():
    unpadded = {"conv3": conv_bn(4, 4, 3), "valid": nn.Conv2d(4, 4, 3)}
    with pytest.raises(UsageError, match=r"'valid' of block 'middle' hands on \(4, 6, 6\), and 'conv3' hands on \(4, 8, 8\).*shaped_by"):
        chain(unpadded).parts()
    space = SearchSpace((Choice("op", tuple(unpadded)),))
    made = ChainSupernet(space, [FixedBlock("stem", conv_bn(3, 4, 3)), ChoiceBlock("middle", "op", unpadded, shapes=True), head()], IMAGE)
    assert [part.name for part in made.parts()][:4] == ["stem", "middle", "middle, shape", "head"]


def test_an_operator_of_a_cell_that_changes_its_shape_is_named():
    space = SearchSpace((Choice("a", ("x", "y")),))
    cell = CellBlock("cell", ["a"], [(0, 1)], [{"x": conv_bn(3, 3, 3), "y": nn.Conv2d(3, 3, 3)}])
    with pytest.raises(UsageError, match=r"Operator 'y' of 'cell, 0 to 1' makes \(3, 6, 6\)"):
        ChainSupernet(space, [cell, head(3)], IMAGE).parts()


def test_a_missing_head_is_told():
    with pytest.raises(UsageError, match=r"The last block, 'middle', hands on \(4, 8, 8\) for an image; expected logits"):
        chain(convs(), last=[]).parts()


class Own(nn.Module):
    """A residual block that is none of ours."""

    def __init__(self, says):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        if says:
            self.residual_norm = self.norm

    def forward(self, x):
        return x + self.norm(self.conv(x))


@pytest.mark.parametrize(
    ("block", "identity"),
    [
        (Own(says=True), True),
        (Own(says=False), False),
        (Residual(nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1), nn.GroupNorm(1, 4))), True),
        (Residual(nn.Conv2d(4, 4, 1)), False),
    ],
)
def test_a_residual_block_that_says_its_norm_begins_as_the_identity(block, identity):
    initialise(block, 0)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block.train()(x), x) == identity


class Silent(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((4, 1, 1), 7.0))

    def forward(self, x):
        return x * self.scale


class Scaled(Silent):
    def reset_parameters(self):
        nn.init.normal_(self.scale)


def test_layers_of_other_kinds_begin_anew_as_well():
    """Trained from scratch is from scratch: nothing is inherited from the supernet, and a seed means the same weights."""
    layers = {"all": nn.Sequential(nn.ConvTranspose2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.PReLU(4), Scaled())}
    made = chain(layers)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1.0)
    inherited, one, same, other = (made.subnet((0,), fresh_seed=seed).state_dict() for seed in (None, 1, 1, 2))
    for name, value in one.items():
        if "weight" in name or "bias" in name or "scale" in name:
            assert torch.equal(value, same[name])
            assert not torch.equal(value, inherited[name]), name
    drawn = [name for name in one if name in ("middle.0.weight", "middle.3.scale")]
    assert len(drawn) == 2
    assert not any(torch.equal(one[name], other[name]) for name in drawn)
    with pytest.raises(UsageError, match=r"parameters of Silent begin \(scale\); expected a method reset_parameters"):
        chain({"a": Silent()})


def test_the_generator_of_others_is_left_alone():
    layers = nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.PReLU())
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    initialise(layers, 0)
    assert torch.equal(torch.rand(1), expected)


def test_one_line_says_what_a_thing_is(digits):
    made = chain(convs())
    for thing in (made, made.space, digits, digits.train):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 250
    assert repr(made.space) == "SearchSpace(1 choices, 2 architectures: op (2 options))"
    assert repr(digits) == "ImageData(digits: 1,150 train, 288 search and 359 test images of 1x8x8, 10 classes)"


def test_a_block_that_cannot_say_what_it_offers_is_taken():
    class Quiet(Block):
        def active(self, *options):
            return nn.Identity()

    space = SearchSpace((Choice("a", ("x", "y")),))
    made = ChainSupernet(space, [Quiet("quiet", ["a"]), head(3)], IMAGE)
    assert np.isfinite(made.eval()(torch.randn(1, *IMAGE), (1,)).detach().numpy()).all()


def test_two_blocks_of_one_name_are_refused():
    """The second would take the place of the first in every network that is delivered."""
    space = SearchSpace((Choice("a", ("x", "y")), Choice("b", ("x", "y"))))
    blocks = [ChoiceBlock("same", name, {"x": conv_bn(3, 3, 3), "y": nn.Identity()}) for name in ("a", "b")]
    with pytest.raises(UsageError, match="Two blocks have the name 'same'"):
        ChainSupernet(space, [*blocks, head(3)], IMAGE)


def test_a_supernet_of_other_classes_is_refused():
    @supernet_space("of-ten", summary="always ten logits")
    def of_ten(image_shape, classes, *, seed=0):
        return chain(convs())

    @supernet_space("listed", summary="a list of blocks")
    def listed(image_shape, classes, *, seed=0):
        return [head()]

    try:
        assert supernet_of("of-ten", IMAGE, 10).classes == 10
        with pytest.raises(UsageError, match="gives 10 logits for 12 classes"):
            supernet_of("of-ten", IMAGE, 12)
        with pytest.raises(UsageError, match="gives list; expected a ChainSupernet"):
            supernet_of("listed", IMAGE, 10)
    finally:
        for name in ("of-ten", "listed"):
            SPACES._entries.pop(name)


def test_what_cannot_be_counted_is_named_with_its_block():
    class Transformed(nn.Module):
        def forward(self, x):
            return x + torch.fft.rfft2(x).real.mean()

    made = chain(convs(fourier=Transformed()))
    with pytest.raises(UsageError, match=r"In 'middle' with fourier: Nobody says how many multiply-accumulates aten._fft_r2c"):
        macs(made.space, made.parts())
