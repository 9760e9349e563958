"""ONNX Runtime, ExecuTorch and LiteRT on this host, one thread: outputs, milliseconds, and how alike they rank networks.

Networks of evonas mobile's space at even steps through their multiply-accumulates, interleaved rounds. What writes files for LiteRT wants
a torch of its own: write there, compare here. And what eight bits cost of delivered networks, kind of operator by kind of operator.

    python benchmarks/runtimes.py write --runtime onnxruntime executorch [--networks 20] [--size 32] [--files DIR]     (extra: mobile)
    python benchmarks/runtimes.py write --runtime litert [...]                                                         (litert-torch)
    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/runtimes.py compare [...]
    OMP_NUM_THREADS=1 python benchmarks/runtimes.py int8 RUN [RUN ...]                          (finished runs)
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from predictors.costs import macs
from predictors.devices import runtime
from predictors.devices.runtimes import RUNTIMES
from predictors.devices.table import spread
from recipes.runner.export import IN_EIGHT_BITS, accuracy_of, calibrating, quantised
from recipes.runner.run_folder import read_config
from supernet import load, mbconv

RUNS, CALIBRATION = 100, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("write", "compare", "int8"))
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--runtime", nargs="+", default=["onnxruntime", "executorch", "litert"])
    parser.add_argument("--files", type=Path, default=Path("runs/benchmark_runtimes"))
    a = parser.parse_args()
    if a.part == "write":
        write(a.runtime, a.networks, a.size, a.files)
    if a.part == "compare":
        compare(a.runtime, a.networks, a.size, a.files)
    for run in a.runs:
        eight_bits(run)


def networks_at(networks: int, size: int) -> tuple[list[torch.nn.Module], np.ndarray]:
    """Networks at even steps through their multiply-accumulates, in use, no weight of them zero; and those multiply-accumulates."""
    supernet = mbconv((3, size, size), 10)
    cost, found = macs(supernet.space, supernet.parts()), []
    rows = spread(supernet.space, cost, networks, 0)
    for i, row in enumerate(rows):
        found.append(supernet.subnet(row).eval())
        generator = torch.Generator().manual_seed(i)
        with torch.no_grad():
            for parameter in found[-1].parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return found, cost(rows)


def write(names: list[str], networks: int, size: int, files: Path) -> None:
    """The networks in the forms of the runtimes."""
    files.mkdir(parents=True, exist_ok=True)
    for i, network in enumerate(networks_at(networks, size)[0]):
        for name in names:
            one = RUNTIMES.pick(name).make()
            if not (path := files / f"{i}{one.suffix}").exists():
                one.write(network, (3, size, size), path)
                print(path, flush=True)


def compare(names: list[str], networks: int, size: int, files: Path) -> None:
    """All runtimes on the same networks, in turn."""
    torch.set_num_threads(1)
    found, counted = networks_at(networks, size)
    runtimes, image = [RUNTIMES.pick(name).make() for name in names], torch.randn(1, 3, size, size)
    ways, differences = list[Any](), np.zeros((networks, len(names)))
    for i, network in enumerate(found):
        with torch.no_grad():
            expected = network(image)
        for k, one in enumerate(runtimes):
            run = one.load(files / f"{i}{one.suffix}")
            differences[i, k] = float((torch.as_tensor(run(image)) - expected).abs().max() / expected.std())
            ways.append(partial(run, image))
    ms = np.array(runtime.times_together(ways, runs=RUNS)).reshape(networks, -1)
    for k, name in enumerate(names):
        ratio = np.exp(np.log(ms[:, k] / ms[:, 0]).mean())
        ranks = ", ".join(f"{spearmanr(ms[:, k], ms[:, j]).statistic:.2f} with {names[j]}" for j in range(k))
        print(
            f"{name}: {ms[:, k].min():.2f} to {ms[:, k].max():.2f} ms, {ratio:.2f} times {names[0]}; Spearman {ranks or 'itself'}, "
            f"{spearmanr(ms[:, k], counted).statistic:.2f} with multiply-accumulates; outputs to {differences[:, k].max():.1g}"
        )


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
