"""What of well-known networks can be chosen by `evonas shrink`: 12 of torchvision, 12 of timm, with new weights, at 64 pixels.

Of each: whether the largest path gives the network's outputs, how many widths, kernels and blocks became choices, which layers stay whole,
what the smallest path costs; and for random paths whether the network that is cut out computes what the path does, costs what the tables
say; of the first few of them, whether the ONNX file computes the same. Rows are kept; run again to go on.

    python benchmarks/given.py --out runs/benchmark_given
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows
from torch import nn

from predictors.costs import count_macs, count_params
from predictors.devices.runtime import export, largest_difference
from supernet.given import GivenSupernet, sizes, source

IMAGE, CLASSES, EXPORTED = (3, 64, 64), 10, 3
NETWORKS = (
    *(f"torchvision:{name}" for name in ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0")),
    *(f"torchvision:{name}" for name in ("efficientnet_b0", "densenet121", "regnet_y_400mf", "squeezenet1_1", "vgg11_bn")),
    *(f"torchvision:{name}" for name in ("googlenet", "mnasnet0_5")),
    *(f"timm:{name}" for name in ("convnext_atto", "mobilenetv4_conv_small", "efficientnet_lite0", "ghostnet_100", "rexnet_100")),
    *(f"timm:{name}" for name in ("repvgg_a0", "dla34", "ese_vovnet19b_dw", "cspresnet50", "res2net50_26w_4s", "skresnet18")),
    "timm:poolformer_s12",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="networks, such as timm:dla34")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_given"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    kept = Rows(a.out / "rows.jsonl")
    for name in a.only or NETWORKS:
        kept.row(name, lambda name=name: looked_at(name, a.paths))


def looked_at(name: str, paths: int) -> dict[str, Any]:
    """One network."""
    network = unlike_new(source.read(name, None, IMAGE, CLASSES).network)
    start = time.perf_counter()
    supernet = GivenSupernet(network, IMAGE)
    seconds = time.perf_counter() - start
    images = torch.randn(2, *IMAGE, generator=torch.Generator().manual_seed(1))
    whole, anatomy = count_macs(network, IMAGE), supernet.anatomy
    macs, params = sizes.macs(supernet, whole), sizes.params(supernet)
    rows = supernet.space.canonical(supernet.space.sample(paths, np.random.default_rng(0)))
    found: dict[str, float] = {"path": 0.0, "macs": 0.0, "params": 0.0, "onnx": 0.0}
    with torch.no_grad():
        same = relative(supernet.eval()(images, supernet.largest), network(images))
        for row in rows:
            alone = supernet.subnet(row).eval()
            found["path"] = max(found["path"], relative(supernet(images, row), alone(images)))
            found["macs"] = max(found["macs"], abs(count_macs(alone, IMAGE) - float(macs(row[None])[0])))
            found["params"] = max(found["params"], abs(count_params(alone, IMAGE) - float(params(row[None])[0])))
        for row in rows[:EXPORTED]:
            found["onnx"] = max(found["onnx"], onnx_difference(supernet.subnet(row).eval(), images))
        smallest = supernet.subnet(supernet.smallest)
    return {
        "largest": same,
        "widths": len(anatomy.groups),
        "kernels": len(anatomy.kernels),
        "blocks": len(anatomy.optional),
        "whole": list(anatomy.whole),
        "left": anatomy.left,
        "smallest": {"macs": count_macs(smallest, IMAGE) / whole, "params": count_params(smallest, IMAGE) / count_params(network, IMAGE)},
        "paths": len(rows),
        "differences": found,
        "seconds": seconds,
    }


def unlike_new(network: nn.Module) -> nn.Module:
    """Batch norms as after a training: new ones would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
    return network.eval()


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def onnx_difference(network: nn.Module, images: torch.Tensor) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export(network, IMAGE, file, dynamic_batch=True)
        return largest_difference(network, file, images) / float(network(images).abs().max())


if __name__ == "__main__":
    main()
