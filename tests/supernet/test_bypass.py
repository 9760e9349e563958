"""Channel-level bypass and ordered dropout: the algebra against definitions, masks against sliced networks, one pass for all images."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from evonas import UsageError
from predictors import costs
from supernet import OrderedDropout, UniformPaths, bypass, train
from supernet import testing as t
from supernet.bypass_block import BypassBlock, channels_out
from supernet.slicing import SlicedNorm, WideNorm
from supernet.spaces.bypass import SHARES, numbers_of_filters


def small(**settings):
    return bypass((1, 8, 8), 4, **{"layout": "digits", "widths": (16, 20, 24), "depths": (2, 2, 2), "expansion": 2, **settings})


def woken(supernet):
    """With norms that say something: branches begin as nothing."""
    return t._prepared(supernet)[0]


def block(arriving, filters, fill, stride=1):
    made = BypassBlock("b", ("b.filters", "b.kernel"), arriving, filters, (3, 5), expansion=2, stride=stride, fill=fill)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made.eval()


@pytest.mark.parametrize(("arriving", "filters", "fill"), itertools.product((3, 6, 9), (0, 2, 6, 8), (4, 8)))
def test_what_is_handed_on(arriving, filters, fill):
    """As many channels as the definition says; computed ones first, then those of the input with the same numbers."""
    made = block(arriving, (0, 2, 6, 8), fill)
    x = torch.randn(2, arriving, 5, 5)
    with torch.no_grad():
        found = made(x, made.filters.index(filters), 1)
    copied = list(range(filters, min(arriving, fill)))
    assert found.shape[1] == filters + len(copied) == channels_out(arriving, filters, fill)
    assert torch.equal(found[:, filters:], x[:, copied])
    assert filters == 0 or not torch.equal(found[:, 0], x[:, 0])


def test_without_filters_a_network_is_that_without_the_blocks():
    """Bit for bit; and the copy has no such blocks."""
    supernet = woken(small())
    row = np.array([0 if choice.options[0] == "0" else 2 for choice in supernet.space.choices])
    row[1::2] = 0
    images = t._images(supernet)
    kept = [(b, columns) for b, columns in zip(supernet.chain, supernet.columns, strict=True) if not columns or row[columns[0]] != 0]
    assert len(kept) == len(supernet.chain) - 4
    x = images
    with torch.no_grad():
        for each, columns in kept:
            x = each(x, *(int(row[c]) for c in columns))
        assert torch.equal(supernet(images, row), x)
        copied = supernet.subnet(row).eval()
        assert [name for name, _ in copied.named_children()] == [each.name for each, _ in kept]
        torch.testing.assert_close(copied(images), x)


def test_every_image_has_its_own_widths_in_one_pass():
    """Masks of a batch are the sliced networks of its images; every convolution runs once, whatever the number of images."""
    supernet = woken(small())
    rng = np.random.default_rng(0)
    rows = supernet.space.sample(24, rng)
    rows[:, 1::2] = 1  # one kernel
    images = torch.randn(24, 1, 8, 8)
    calls = []
    inner = torch.nn.functional.conv2d
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        expected = torch.cat([supernet.subnet(row).eval()(image[None]) for row, image in zip(rows, images, strict=True)])
        for module in ("supernet.slicing", "supernet.depthwise"):
            patch.setattr(f"{module}.conv2d", lambda *a, **k: calls.append(1) or inner(*a, **k))
        found = supernet(images, rows)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert len(calls) == 3 * 6 + 1  # six blocks and the head


def test_filters_that_no_image_has_get_no_gradient():
    supernet = woken(small()).train()
    rows = np.repeat([[1 if c.options[0] == "0" else 0 for c in supernet.space.choices]], 8, axis=0)
    rows[:, 1::2] = 0
    supernet(torch.randn(8, 1, 8, 8), rows).square().sum().backward()
    for each in supernet.chain[1:-1]:
        few = each.filters[1 if each.filters[0] == 0 else 0]
        assert each.project.weight.grad[:few].abs().sum() > 0
        assert each.project.weight.grad[few:].abs().max() == 0
        assert each.project.weight.grad[:, 2 * few :].abs().max() == 0
        assert each.depthwise.weight.grad[2 * few :].abs().max() == 0
        assert each.depthwise.weight.grad[:, :, 0].abs().max() == 0  # beyond the middle of 3


def test_masks_keep_layout_and_run_in_half_precision():
    supernet = woken(small())
    rows = supernet.space.sample(6, np.random.default_rng(1))
    images = torch.randn(6, 1, 8, 8)
    with torch.no_grad():
        expected = supernet(images, rows)
        assert (
            supernet.chain[1]
            .per_image(torch.randn(6, 16, 8, 8).contiguous(memory_format=torch.channels_last), *rows[:, :2].T)
            .is_contiguous(memory_format=torch.channels_last)
        )
        with torch.autocast("cpu", torch.bfloat16):
            found = supernet(images, rows)
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.15)


def test_costs_are_exact_whatever_arrives():
    """At both ends of a space that can be listed."""
    supernet = bypass((1, 8, 8), 4, layout="digits", widths=(8, 12, 16), depths=(1, 2, 1), kernels=(3, 5), expansion=2)
    macs = costs.macs(supernet.space, supernet.parts())
    everything = macs(supernet.space.enumerate())
    assert [macs(np.array([row]))[0] for row in macs.extremes(supernet.space)] == [everything.min(), everything.max()]
    some = supernet.space.sample(20, np.random.default_rng(2))
    np.testing.assert_array_equal(macs(some), [costs.count_macs(supernet.subnet(row), (1, 8, 8)) for row in some])


def test_widths_are_drawn_for_every_image_and_kernels_for_a_group():
    supernet, rng = small(), np.random.default_rng(0)
    rows = OrderedDropout(groups=4).paths(supernet, 4000, rng)
    kernels = rows[:, 1::2].reshape(4, 1000, -1)
    assert (kernels == kernels[:, :1]).all()
    for column, choice in list(enumerate(supernet.space.choices))[::2]:
        shares = np.bincount(rows[:, column]) / len(rows)
        np.testing.assert_allclose(shares, 1 / len(choice.options), atol=0.04)


def test_a_step_leaves_alone_what_it_does_not_use():
    """Scales beyond the filters of a path, and the rim of a kernel, are not moved by momentum."""
    supernet = woken(small())
    rows = [[len(c.options) - 1 for c in supernet.space.choices], [1 if c.options[0] == "0" else 0 for c in supernet.space.choices]]
    rows[1][1::2] = [0] * 6
    found = []

    class Both(UniformPaths):
        def paths(self, space, rng):
            return np.array([rows[len(found) > 0]])

    def look(step):
        each = supernet.chain[2]
        found.append([v.detach().clone() for v in (each.expand_norm.weight, each.project_norm.weight, each.depthwise.weight)])

    train(supernet, Both(), t.training_images(96), epochs=1, batch_size=32, lr=0.05, on_step=look)
    few = supernet.chain[2].filters[1]
    for now, then in zip(found[2], found[0], strict=True):
        used = 2 * few if len(now) > 16 else few
        assert torch.equal(now[used:], then[used:])
        assert not torch.equal(now[:used], then[:used])
    assert torch.equal(found[2][2][:, :, 0], found[0][2][:, :, 0])


def test_a_part_of_a_norm_is_a_norm_of_its_own():
    """In training, with the running statistics it leaves behind, and after it."""
    torch.manual_seed(0)
    whole, alone = WideNorm(6), nn.BatchNorm2d(4)
    with torch.no_grad():
        whole.weight.uniform_()
        alone.weight.copy_(whole.weight[:4])
    x = torch.randn(8, 4, 3, 3)
    for training in (True, False):
        whole.train(training)
        torch.testing.assert_close(SlicedNorm(whole, 4)(x), alone.train(training)(x))
    torch.testing.assert_close(whole.running_var[:4], alone.running_var)
    assert torch.equal(whole.running_var[4:], torch.ones(2))
    torch.testing.assert_close(SlicedNorm(whole, 4).plain()(x), alone(x))


@pytest.mark.parametrize(("width", "expected"), [(16, (4, 8, 12, 16)), (40, (16, 24, 32, 40)), (24, (8, 12, 20, 24)), (6, (2, 3, 5, 6))])
def test_numbers_of_filters(width, expected):
    assert numbers_of_filters(width) == expected
    assert len(expected) == len(SHARES)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: small(kernels=(5, 3)), "ascending odd numbers"),
        (lambda: small(kernels=(2, 3)), "ascending odd numbers"),
        (lambda: small(fill=0.0), "above 0"),
        (lambda: bypass((1, 8, 8), 4, layout="digits", widths=(3, 12, 16)), "at least 4"),
        (lambda: block(4, (0, 4), 4, stride=2), "shrinks the map"),
        (lambda: block(4, (0, 4), 8), "no more"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()
