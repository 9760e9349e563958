"""MACs and parameters of a million architectures, and whether they are exact.

The last line is one JSON object: seconds_per_million (both costs together, one thread), and the number of 100 random
stand-alone networks on which PyTorch's own counters (`FlopCounterMode` halved, `numel`) give the same.

    python benchmarks/costs.py
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from predictors import macs, params
from supernet import mbconv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", default="mobile")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--networks", type=int, default=100)
    a = parser.parse_args()
    torch.set_num_threads(1)
    supernet = mbconv((3, a.size, a.size), 1000, layout=a.layout, squeeze_excite=True)
    space, parts = supernet.space, supernet.parts()
    costs = macs(space, parts), params(space, parts)
    population = space.sample(1_000_000, np.random.default_rng(0))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for cost in costs:
            cost(population)
        times.append(time.perf_counter() - start)
    exact = 0
    for row in population[: a.networks]:
        with torch.device("meta"):
            images = torch.zeros(1, 3, a.size, a.size)
        network = supernet.subnet(row).to("meta").eval()
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            network(images)
        truth = flops.get_total_flops() / 2, sum(p.numel() for p in network.parameters())
        exact += truth == tuple(float(cost(row[None])[0]) for cost in costs)
    result = {"seconds_per_million": float(np.median(times)), "exact": exact, "networks": a.networks}
    print(json.dumps({"settings": vars(a), "choices": len(space), **result}))


if __name__ == "__main__":
    main()
