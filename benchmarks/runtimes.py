"""ONNX Runtime and ExecuTorch with XNNPACK on this host, one thread: outputs, milliseconds, and how alike they rank networks.

Networks of evonas mobile's space at even steps through their multiply-accumulates, new weights, interleaved rounds. And what eight bits
cost of delivered networks, kind of operator by kind of operator.

    OMP_NUM_THREADS=1 python benchmarks/runtimes.py compare [--networks 20] [--size 32]          (needs the extra mobile)
    OMP_NUM_THREADS=1 python benchmarks/runtimes.py int8 RUN [RUN ...]                          (finished runs)
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr

from predictors.costs import macs
from predictors.devices import runtime
from predictors.devices.table import spread
from recipes.runner.export import IN_EIGHT_BITS, accuracy_of, calibrating, quantised
from recipes.runner.run_folder import read_config
from supernet import load, mbconv

RUNS, CALIBRATION = 100, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("compare", "int8"))
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--size", type=int, default=32)
    a = parser.parse_args()
    if a.part == "compare":
        compare(a.networks, a.size)
    for run in a.runs:
        eight_bits(run)


def compare(networks: int, size: int) -> None:
    """Both runtimes on the same networks."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    supernet = mbconv((3, size, size), 10)
    cost, found = macs(supernet.space, supernet.parts()), []
    image = torch.randn(1, 3, size, size)
    with tempfile.TemporaryDirectory() as folder:
        for i, row in enumerate(spread(supernet.space, cost, networks, 0)):
            network = supernet.subnet(row).eval()
            runtime.export(network, supernet.image_shape, onnx := Path(folder) / f"{i}.onnx")
            program = to_edge_transform_and_lower(torch.export.export(network, (image,)), partitioner=[XnnpackPartitioner()])
            (pte := Path(folder) / f"{i}.pte").write_bytes(program.to_executorch().buffer)
            session, method = runtime.session(onnx), Runtime.get().load_program(str(pte)).load_method("forward")
            ways: list[Any] = [lambda s=session: s.run(None, {"images": image.numpy()})[0], lambda m=method: m.execute([image])[0].numpy()]
            with torch.no_grad():
                expected = network(image).numpy()
            differences = [float(np.abs(way() - expected).max()) for way in ways]
            found.append([*runtime.times_together(ways, runs=RUNS), *differences, float(cost(row[None])[0])])
            print(f"{found[-1][4] / 1e6:.2f} M MACs: ONNX Runtime {found[-1][0]:.3f} ms, ExecuTorch {found[-1][1]:.3f} ms", flush=True)
    onnx_ms, torch_ms, *differences, counted = np.array(found).T
    print(f"largest differences: ONNX Runtime {differences[0].max():.1g}, ExecuTorch {differences[1].max():.1g}")
    print(f"Spearman {spearmanr(onnx_ms, torch_ms).statistic:.3f}, Kendall {kendalltau(onnx_ms, torch_ms).statistic:.3f}")
    print(f"with multiply-accumulates: {spearmanr(onnx_ms, counted).statistic:.3f}, {spearmanr(torch_ms, counted).statistic:.3f}")
    print(f"ExecuTorch takes {np.exp(np.log(torch_ms / onnx_ms).mean()):.2f} times as long (geometric mean)")


def eight_bits(run: Path) -> None:
    """Accuracy and time in floats and in eight bits, and with one kind of operator left as it is."""
    images, source = load(read_config(run)["data"]), run / "model.onnx"
    plain = accuracy_of(source, images, "floats")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantised(source, path, calibrating(images, CALIBRATION))
        fast, slow = runtime.times_onnx([path, source], [images.image_shape] * 2)
        found = accuracy_of(path, images, "eight bits")
        sizes = path.stat().st_size / source.stat().st_size
        print(
            f"{run.name}: {plain:.4f} in floats, {found:.4f} in eight bits; {slow:.4f} ms, {fast:.4f} ms; {sizes:.2f} of the size",
            flush=True,
        )
        for kind in IN_EIGHT_BITS:
            quantised(source, path, calibrating(images, CALIBRATION), but=(kind,))
            print(f"    {kind} in floats: {accuracy_of(path, images, kind):.4f}", flush=True)


if __name__ == "__main__":
    main()
