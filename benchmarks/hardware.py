"""Latency models on this host: networks of the small skip space are measured, and each fifth is foretold from the others.

Rows are kept, so that an interrupted benchmark goes on. Measure on a quiet machine.

    OMP_NUM_THREADS=1 python benchmarks/hardware.py --networks 40 --rows runs/hardware.jsonl
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows

from predictors import fit_hardware
from predictors.devices.runtime import measure
from predictors.flash.hardware import FEATURES
from supernet import skip_cells
from supernet.spaces.skip import SkipFamily


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--rows", type=Path, default=Path("runs/hardware.jsonl"))
    a = parser.parse_args()
    family = skip_cells((3, a.image_size, a.image_size), 10, layout="small")
    population = family.space.sample(a.networks, np.random.default_rng(2))
    rows = Rows(a.rows)
    found = [rows.row(f"{a.image_size} {i}", partial(measured, family, row), quiet=True) for i, row in enumerate(population)]
    milliseconds = [row["milliseconds"] for row in found]
    print(f"{a.networks} networks, {min(milliseconds):.3f} to {max(milliseconds):.3f} ms")
    for what, features in (
        ("macs, params, activations, layers, connections", FEATURES),
        ("without connections", FEATURES[:-1]),
        ("macs, layers", ("macs", "layers")),
        ("macs", ("macs",)),
        ("params", ("params",)),
    ):
        cost, held_out = fit_hardware(family.totals, population, milliseconds, features=features)
        print(f"{what}: {held_out}; { {name: float(f'{value:.3g}') for name, value in cost.coefficients.items()} }")


def measured(family: SkipFamily, row: np.ndarray) -> dict[str, Any]:
    """One network, exported and run."""
    return {"architecture": row.tolist(), "milliseconds": measure(family.network(row), family.image_shape)}


if __name__ == "__main__":
    main()
