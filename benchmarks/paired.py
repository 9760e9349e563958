"""Training and the prefix walk of two checkouts of the project, in turn and in one run: is a change slower than what was there before?

    python benchmarks/paired.py --before OTHER_CHECKOUT --data cifar16.npz --repeats 5

Each timing is a process of its own with one thread, the checkouts one after another; ratios are medians of after / before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

WORK = """
import json, sys, time, torch, numpy as np
torch.set_num_threads(1)
from supernet import InheritedFitness, UniformPaths, load, mbconv, shuffle, train
data = load(sys.argv[1])
found = {}
for name, make, settings in (("mbconv", mbconv, {}), ("shuffle", shuffle, {"widths": ("0.5", "1.0")})):
    supernet = make(data.image_shape, 10, **settings)
    train(supernet, UniformPaths(), data.train.head(320), epochs=1, batch_size=64)
    start = time.perf_counter()
    train(supernet, UniformPaths(), data.train.head(1920), epochs=2, batch_size=64)
    found[f"training, {name}"] = time.perf_counter() - start
    fitness = InheritedFitness(supernet, data.search.head(250), data.train.head(128))
    population = supernet.space.sample(60, np.random.default_rng(0))
    population[:, :4] = population[:3, :4].repeat(20, axis=0)
    fitness(population[:5])
    start = time.perf_counter()
    scores = fitness(population)
    found[f"prefix walk, {name}"] = time.perf_counter() - start
    found[f"scores, {name}"] = float(scores.sum())
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the other checkout")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    a = parser.parse_args()
    here = Path(__file__).parents[1]
    found: dict[Path, list[dict[str, float]]] = {a.before.resolve(): [], here: []}
    for repeat in range(a.repeats):
        order = list(found) if repeat % 2 == 0 else list(found)[::-1]
        for checkout in order:
            environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-c", WORK, str(a.data.resolve())]
            done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
            found[checkout].append(json.loads(done.stdout.splitlines()[-1]))
    before, after = found.values()
    for what in before[0]:
        ratios = [new[what] / old[what] for old, new in zip(before, after, strict=True)]
        old, new = (statistics.median(row[what] for row in rows) for rows in (before, after))
        print(f"{what}: before {old:.4g}, after {new:.4g}, ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
