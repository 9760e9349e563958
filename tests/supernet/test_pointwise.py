"""Pointwise convolutions as products, beside the convolutions."""

import pytest
import torch
from torch import nn
from torchvision import models

from supernet.pointwise import PointwiseAsProducts


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "shufflenet_v2_x1_0"])
def test_networks_give_the_same_outputs_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    network = models.get_model(name, num_classes=7).double().eval()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    plain = network(images)
    by_convolution = torch.autograd.grad(plain.square().sum(), list(network.parameters()))
    with PointwiseAsProducts():
        product = network(images)
        by_product = torch.autograd.grad(product.square().sum(), list(network.parameters()))
    torch.testing.assert_close(product, plain)
    torch.testing.assert_close(by_product, by_convolution)


@pytest.mark.parametrize(
    ("layer", "becomes"),
    [
        (nn.Conv2d(4, 6, 1), True),
        (nn.Conv2d(4, 6, 1, padding="same"), True),
        (nn.Conv2d(4, 6, 1, stride=2), False),
        (nn.Conv2d(4, 6, 1, padding=1), False),
        (nn.Conv2d(4, 4, 1, groups=4), False),
        (nn.Conv2d(4, 6, 3), False),
    ],
)
def test_what_is_a_product_becomes_one_and_nothing_else(layer: nn.Conv2d, becomes: bool) -> None:
    images = torch.randn(3, 4, 5, 5)
    with PointwiseAsProducts(), torch.profiler.profile() as profile:
        output = layer(images)
    ran = {event.key for event in profile.key_averages()}
    assert ("aten::conv2d" not in ran) == becomes
    torch.testing.assert_close(output, layer(images))
