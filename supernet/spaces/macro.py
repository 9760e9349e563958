"""The macro space: NAS-Bench-Macro as a supernet, exactly the networks whose accuracies its table holds.

Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", 2021, arXiv 2103.11922. Eight layers in three stages of
64, 128 and 256 channels, each an identity, an inverted residual with expansion 3 and kernel 3, or one with expansion 6 and kernel 5.
The first layer of a stage halves the map; an identity there is a strided 1x1 convolution.

An identity inside a stage is nothing at all, so networks that differ only in where it stands are the same network: the authors trained
3,969 networks and wrote their accuracies into 6,561 rows. A supernet would give each of the equal ones other weights, and another
score. Here they share one path, that with its identities last (`evonas.tabular.identities_last`).
"""

from __future__ import annotations

from torch import nn

from evonas.errors import UsageError
from evonas.tabular import MACRO_STAGES, nasbench_macro_space
from supernet.blocks import ChoiceBlock, FixedBlock
from supernet.chain import ChainSupernet
from supernet.operators import InvertedResidual, conv_bn
from supernet.spaces.registry import space

STEM_WIDTH, HEAD_WIDTH = 32, 1280


@space("macro", summary="NAS-Bench-Macro, whose 6,561 accuracies are published", paper="Su et al. 2021, arXiv 2103.11922")
def macro(image_shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, *, seed: int = 0) -> ChainSupernet:
    """The supernet of NAS-Bench-Macro.

    Args:
        image_shape: (channels, height, width); the table's accuracies and costs are of 32-pixel images with 3 channels.
        classes: number of logits.
        seed: of the initial weights.

    Raises:
        UsageError: images of fewer than 8 pixels.
    """
    if min(image_shape[1:]) < 8:
        raise UsageError(f"Images of {image_shape[1]}x{image_shape[2]} pixels are too small for a network that divides them by 8.")
    space = nasbench_macro_space()
    blocks: list[ChoiceBlock | FixedBlock] = [FixedBlock("stem", conv_bn(image_shape[0], STEM_WIDTH, 3, activation=nn.ReLU))]
    channels, names = STEM_WIDTH, iter(space.names)
    for stage, depth in enumerate(MACRO_STAGES):
        for layer in range(depth):
            width, stride = (2 * channels, 2) if layer == 0 else (channels, 1)
            options: dict[str, nn.Module] = {
                "identity": conv_bn(channels, width, 1, stride, activation=None) if layer == 0 else nn.Identity(),
                "mb3_k3": InvertedResidual(channels, width, 3, 3, stride, activation=nn.ReLU),
                "mb6_k5": InvertedResidual(channels, width, 5, 6, stride, activation=nn.ReLU),
            }
            blocks.append(ChoiceBlock(f"stage{stage}_layer{layer}", next(names), options))
            channels = width
    head = nn.Sequential(
        conv_bn(channels, HEAD_WIDTH, 1, activation=nn.ReLU), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(HEAD_WIDTH, classes)
    )
    return ChainSupernet(space, [*blocks, FixedBlock("head", head)], image_shape, seed=seed)
