"""What one would pick instead: torchvision's small networks at the width that fits a budget, adapted to small images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import mobilenetv3

from predictors.costs import count_macs, count_params
from supernet.initialisation import initialise

Shape = tuple[int, int, int]
Make = Callable[[float, int], nn.Module]

SMALL_IMAGE, STRIDES_LEFT_OUT = 64, 2
FINEST_WIDTH, LARGEST_WIDTH = 0.01, 2.0


def mobilenet_v3_small(width: float, classes: int) -> nn.Module:
    """MobileNetV3-small (Howard et al., 2019, arXiv 1905.02244)."""
    setting, last = mobilenetv3._mobilenet_v3_conf("mobilenet_v3_small", width_mult=width)
    return mobilenetv3.MobileNetV3(setting, last, num_classes=classes)


def shufflenet_v2(width: float, classes: int) -> nn.Module:
    """ShuffleNetV2 (Ma et al., 2018, arXiv 1807.11164), whose widths at 1.0 are 116, 232, 464 and 1,024."""
    widths = [max(8, round(full * width / 2) * 2) for full in (24, 116, 232, 464, 1024)]
    return torchvision.models.ShuffleNetV2([4, 8, 4], widths, num_classes=classes)


def mobilenet_v2(width: float, classes: int) -> nn.Module:
    """MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381)."""
    return torchvision.models.mobilenet_v2(num_classes=classes, width_mult=width)


def mnasnet(width: float, classes: int) -> nn.Module:
    """MnasNet-B1 (Tan et al., 2018, arXiv 1807.11626)."""
    return torchvision.models.MNASNet(width, num_classes=classes)


HAND_MADE: dict[str, Make] = {
    "MobileNetV2": mobilenet_v2,
    "MobileNetV3-small": mobilenet_v3_small,
    "ShuffleNetV2": shufflenet_v2,
    "MnasNet": mnasnet,
}


def adapted(make: Make, width: float, image_shape: Shape, classes: int) -> nn.Module:
    """A network for images of this size: of small ones the first two strides are left out, as is usual for CIFAR."""
    network = make(width, classes)
    if image_shape[1] < SMALL_IMAGE:
        _leave_out_strides(network, image_shape)
    return network


def begin_as_ours(network: nn.Module, seed: int) -> nn.Module:
    """Weights drawn anew as `supernet.initialisation` draws them, which is kinder to deep narrow networks than torchvision's own weights.

    The last norm of residual branches begins at 0. MnasNet's norms follow the statistics as fast as all others do: torchvision's momentum
    of 0.0003 needs more steps than there are.
    """
    initialise(network, seed)
    for module in network.modules():
        if getattr(module, "use_res_connect", False) or getattr(module, "apply_residual", False):
            norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
            nn.init.zeros_(norms[-1].weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return network


def _leave_out_strides(network: nn.Module, image_shape: Shape) -> None:
    """Convolutions and pools that halve an image which was halved fewer than twice keep its size."""
    sizes = {-(-image_shape[1] // 2**level) for level in range(STRIDES_LEFT_OUT)}
    seen: dict[nn.Module, int] = {}

    def look(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen[layer] = inputs[0].shape[-1]

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    with torch.no_grad():
        network.eval()(torch.zeros(1, *image_shape))
    for hook in hooks:
        hook.remove()
    for layer, size in seen.items():
        if size in sizes and layer.stride in (2, (2, 2)):
            layer.stride = (1, 1) if isinstance(layer, nn.Conv2d) else 1


def widest(
    make: Make, image_shape: Shape, classes: int, fits: Callable[[nn.Module], bool], *, finest: float = FINEST_WIDTH
) -> tuple[float, nn.Module] | None:
    """The network at the largest width multiplier that fits, bisected; None where even the narrowest does not."""
    low, high = finest, LARGEST_WIDTH
    build = partial(adapted, make, image_shape=image_shape, classes=classes)
    if not fits(build(low)):
        return None
    while high - low > finest:
        middle = round((low + high) / 2, 4)
        low, high = (middle, high) if fits(build(middle)) else (low, middle)
    return low, build(low)


def costs_of(network: nn.Module, image_shape: Shape, latency: Callable[[nn.Module], float]) -> dict[str, Any]:
    """MACs, parameters and milliseconds of one image."""
    return {"macs": count_macs(network, image_shape), "params": count_params(network, image_shape), "latency": latency(network)}
