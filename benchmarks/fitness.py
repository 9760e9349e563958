"""How much faster is the prefix walk than scoring candidates one by one, on the same images with the same statistics?

Measured on the populations of generations 1, 5 and 15 of an evolution, and on all 6,561 networks of a space of 8 blocks with
3 operators (there the loop is timed on every tenth network, and multiplied). `saved` is the share of multiply-accumulates that
the walk does not do, stem and head included. Both sides run in turn in one process. The last line is one JSON object.

    python benchmarks/fitness.py --data cifar16.npz
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from evonas import EvolutionExplorer, open_study, search
from predictors import count_macs
from supernet import InheritedFitness, UniformPaths, load, mbconv, pick_device, score_one_by_one, train
from supernet.chain import ChainSupernet
from supernet.fitness import walk_order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="images, as evonas mobile takes them")
    parser.add_argument("--images", type=int, default=250, help="images that are scored")
    parser.add_argument("--calibration", type=int, default=128, help="images that statistics are taken from")
    parser.add_argument("--epochs", type=int, default=5, help="of the supernet, so that the evolution has something to follow")
    parser.add_argument("--repeats", type=int, default=7, help="timings of each population; the median counts")
    parser.add_argument("--step", type=int, default=10, help="the loop is timed on every step-th network of the small space")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    device, data = pick_device(a.device), load(a.data)
    parts = {"search": data.search.head(a.images), "calibration": data.train.head(a.calibration), "device": device}

    supernet = mbconv(data.image_shape, len(data.classes))
    train(supernet, UniformPaths(), data.train, epochs=a.epochs, device=device)
    fitness = InheritedFitness(supernet, **parts)
    study = open_study(None, "evolution")
    found = search(supernet.space, fitness, EvolutionExplorer(supernet.space), evaluations=750, study=study)
    generations, difference = [], 0.0
    for generation in (1, 5, 15):
        population = found.history.population[50 * (generation - 1) : 50 * generation]
        row, apart = compare(supernet, fitness, population, population, parts, a.repeats)
        generations.append({"generation": generation, **row})
        difference = max(difference, apart)
        print(json.dumps(generations[-1]), flush=True)

    wide = mbconv(data.image_shape, len(data.classes), layout="digits", expansions=(3,))
    wide.space = wide.space.narrow({choice.name: choice.options[:3] for choice in wide.space.choices})
    wide.to(device, memory_format=torch.channels_last)
    everything = wide.space.enumerate()
    exhaustive, apart = compare(wide, InheritedFitness(wide, **parts), everything, everything[:: a.step], parts, 1)
    print(
        json.dumps(
            {"settings": vars(a), "largest_logit_difference": max(difference, apart), "generations": generations, "exhaustive": exhaustive}
        )
    )


def compare(
    supernet: ChainSupernet, fitness: InheritedFitness, population: np.ndarray, looped: np.ndarray, parts: dict[str, Any], repeats: int
) -> tuple[dict[str, float], float]:
    """Median seconds of both sides as a ratio, and the largest difference of logits on the rows that the loop scores."""
    walk, loop = [], []
    fitness(population[:10])  # both sides begin warm
    score_one_by_one(supernet, looped[:10], **parts)
    for _ in range(repeats):
        loop.append(seconds(lambda: score_one_by_one(supernet, looped, **parts), parts["device"]))
        walk.append(seconds(lambda: fitness(population), parts["device"]))
    loop_seconds = float(np.median(loop)) * len(population) / len(looped)
    few = looped[:200]
    expected = score_one_by_one(supernet, few, **parts)
    apart = float((fitness.logits(few) - expected).abs().max())
    share = saved(supernet, population)
    speedup = loop_seconds / float(np.median(walk))
    return {"saved": share, "speedup": speedup, "expected": 0.85 / (1 - share), "networks": len(population)}, apart


def saved(supernet: ChainSupernet, population: np.ndarray) -> float:
    """Share of the MACs of all candidates that fall into prefixes that an earlier candidate of the walk has computed."""
    order, shared = walk_order(supernet, population)
    tables: dict[tuple[int, tuple[int, ...]], float] = {}
    total = done = 0.0
    parts = supernet.parts()
    for row, keep in zip(population[order], shared, strict=True):
        for depth, part in enumerate(parts):
            key = (depth, tuple(int(row[c]) for c in part.choices))
            if key not in tables:
                tables[key] = count_macs(part.build(*key[1]), part.input_shape)
            total += tables[key]
            done += tables[key] if depth >= keep else 0.0
    return 1 - done / total


def seconds(call: Any, device: torch.device) -> float:
    """Wall-clock seconds of a call, the device's work included."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
