"""Networks of `mbconv` at 32 pixels measured on another machine: that machine's processor and GPU are the new devices, this host is known.

    python benchmarks/phone_here.py measure --networks 60 --out measured.json      # on the other machine, with nothing else running
    OMP_NUM_THREADS=1 python benchmarks/phone_here.py judge --measured measured.json [--draws 50]      # on this host

Ways: ONNX Runtime with one thread and with four; where there is a GPU, PyTorch on it, as a CUDA graph with one image and with 64, and
eagerly.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from phone import compared
from torch import nn

from evonas.files import read_json, write_json
from predictors.costs import macs
from predictors.devices.known import MeasuredDevice
from predictors.devices.runtime import export_to_time, times_together
from predictors.devices.table import measure_blocks
from supernet import mbconv

SHAPE, CLASSES, RUNS, SEED = (3, 32, 32), 10, 25, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("measure", "judge"))
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("measured.json"))
    parser.add_argument("--measured", type=Path, default=Path("measured.json"))
    parser.add_argument("--draws", type=int, default=50)
    a = parser.parse_args()
    measure(a.networks, a.out) if a.part == "measure" else judge(read_json(a.measured), a.draws)


def measure(networks: int, out: Path) -> None:
    """Milliseconds by every way, into a file."""
    supernet = mbconv(SHAPE, CLASSES)
    rows = supernet.space.sample(networks, np.random.default_rng(SEED))
    modules = [supernet.subnet(tuple(row)) for row in rows.tolist()]
    found: dict[str, Any] = {"rows": rows.tolist()}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.onnx" for i in range(networks)]
        for module, path in zip(modules, paths, strict=True):
            export_to_time(module, SHAPE, path)
        image = {"images": np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)}
        for threads in (1, 4):
            sessions = [session(path, threads) for path in paths]
            found[f"cpu{threads}"] = times_together([partial(one.run, None, image) for one in sessions], runs=RUNS)
    if torch.cuda.is_available():
        for name, batch in (("gpu_graph1", 1), ("gpu_graph64", 64)):
            found[name] = times_together([graphed(module.cuda().eval(), batch) for module in modules], runs=RUNS)
        found["gpu_eager1"] = times_together([eager(module) for module in modules], runs=RUNS)
    write_json(out, found)


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def graphed(network: nn.Module, batch: int) -> Callable[[], None]:
    """Replays a CUDA graph, and waits for it."""
    images, graph, side = torch.randn(batch, *SHAPE, device="cuda"), torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.no_grad():
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                network(images)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            network(images)

    def run(kept: Any = (network, images)) -> None:  # the graph reads their memory
        graph.replay()
        torch.cuda.synchronize()

    return run


def eager(network: nn.Module) -> Callable[[], None]:
    images = torch.randn(1, *SHAPE, device="cuda")

    def run() -> None:
        with torch.no_grad():
            network(images)
        torch.cuda.synchronize()

    return run


def judge(found: dict[str, Any], draws: int) -> None:
    """Spearman correlation and the share within 10 %, of the networks that were not among the ten or twenty measured."""
    supernet = mbconv(SHAPE, CLASSES)
    table, cost = measure_blocks(supernet.space, supernet.parts()), macs(supernet.space, supernet.parts())
    rows = np.array(found.pop("rows"))
    for networks in (10, 20):
        means = []
        for name, milliseconds in found.items():
            device = MeasuredDevice(name, rows, np.array(milliseconds))
            row = compared(supernet.space, device, networks, draws, table, cost)
            if not means:
                print(f"\n| {networks} measured | {' | '.join(row)} |\n{'|---' * (len(row) + 1)}|")
            means.append(list(row.values()))
            print(f"| {name} | {' | '.join(f'{rank:.3f}, {share:.2f}' for rank, share in row.values())} |", flush=True)
        print(f"| **mean** | {' | '.join(f'{rank:.3f}, {share:.2f}' for rank, share in np.mean(means, axis=0))} |")
    print(json.dumps({name: [round(float(v), 4) for v in np.quantile(ms, (0, 0.5, 1))] for name, ms in found.items()}))


if __name__ == "__main__":
    main()
