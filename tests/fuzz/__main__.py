"""Malformed input of every kind that a person or a stranger can give, made from seeds; with times and every violation: `make fuzz`.

Started from the root of the project: python -m tests.fuzz --cases 10000
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.cases import CASES, make_kit
from tests.fuzz.run import do


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(CASES), help="cases of one kind")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        kit = make_kit(Path(place), ("mobile", "flash", "gap"))
        start, counts, slowest, wrong = time.perf_counter(), collections.Counter[str](), 0.0, []
        seconds: dict[str, float] = collections.defaultdict(float)
        for number in range(a.first, a.first + a.cases):
            kind, took, violation = do(number, kit, a.seed, a.only)
            counts[kind] += 1
            seconds[kind] += took
            slowest = max(slowest, took)
            if violation is not None:
                wrong.append(violation)
                print(f"{violation.number} {violation.kind}: {violation.what}\n", flush=True)
            if number % 500 == 499:
                print(f"{number + 1} cases, {len(wrong)} violations, {time.perf_counter() - start:.0f} s", flush=True)
    took = time.perf_counter() - start
    each = {kind: round(1e3 * seconds[kind] / counts[kind], 1) for kind in counts}
    print(json.dumps({"cases": a.cases, "violations": len(wrong), "seconds": round(took, 1), "slowest": round(slowest, 1), "ms": each}))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
