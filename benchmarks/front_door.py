"""The first minute of two checkouts side by side: seconds and memory of what a person types first, in turn, in one run.

    python -m benchmarks.front_door --before ../evonas-before --after . --rounds 7

Each checkout runs in this environment, from an empty folder, by its own path; the middle of the rounds is told, and the largest memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = "import sys; sys.argv = {!r}\nfrom recipes.runner.cli import main\nmain()"
TYPED = (["evonas", "--help"], ["evonas", "mobile", "--help"])
ASKED = {"import evonas": "import evonas", **{" ".join(words): COMMAND.format(words) for words in TYPED}}
MEMORY = """
import atexit, resource, sys
atexit.register(lambda: print("KB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
"""


def measured(checkout: Path, code: str, folder: str) -> tuple[float, float]:
    """Seconds and MB of one process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEMORY + code], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    spent = time.perf_counter() - begin
    return spent, float(done.stderr.rsplit("KB", 1)[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, default=Path())
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    print(f"{'':22} before: s      MB    after: s      MB")
    with tempfile.TemporaryDirectory() as folder:
        for what, code in ASKED.items():
            found: dict[str, list[tuple[float, float]]] = {"before": [], "after": []}
            for _ in range(asked.rounds):
                for side, checkout in (("before", asked.before), ("after", asked.after)):
                    found[side].append(measured(checkout, code, folder))
            told = [(statistics.median(s for s, _ in rows), max(mb for _, mb in rows)) for rows in found.values()]
            print(f"{what:22}    {told[0][0]:6.2f}  {told[0][1]:6.0f}     {told[1][0]:6.2f}  {told[1][1]:6.0f}")


if __name__ == "__main__":
    main()
