"""One search by several workers on this machine: PostgreSQL, the workers and the Optuna dashboard, as `make workers` starts them.

    python -m benchmarks.many_workers --workers 4 --out runs/workers -- mobile --data digits --budget macs=700k --epochs 60

What stands after `--` is the command of every worker; storage, study, artifacts and run folder are added. Everything is kept in `--out`:
the same command again goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.postgres import Postgres

DEMO = ["mobile", "--data", "digits", "--budget", "macs=700k", "--epochs", "60", "--seed", "0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/workers"))
    parser.add_argument("--port", type=int, default=8080, help="of the dashboard")
    parser.add_argument("command", nargs="*", default=DEMO)
    a = parser.parse_args()
    evonas = [sys.executable, "-m", "recipes"]
    with Postgres((a.out / "postgres").absolute()) as server:
        environment = {**os.environ, "EVONAS_STORAGE": server.url, "OMP_NUM_THREADS": "1"}
        folders = [a.out / f"worker{number}" for number in range(a.workers)]
        shared = ["--study", "search", "--artifacts", str(a.out / "artifacts")]
        processes = [subprocess.Popen([*evonas, *a.command, *shared, "--out", str(out)], env=environment) for out in folders]
        dashboard = subprocess.Popen(["optuna-dashboard", server.url, "--port", str(a.port)], stderr=subprocess.DEVNULL)
        print(f"{a.workers} workers, {server.url}; dashboard: http://127.0.0.1:{a.port}", flush=True)
        try:
            ended = [process.wait() for process in processes]
        finally:
            for process in [*processes, dashboard]:
                process.terminate()
                process.wait()
    if any(ended):
        sys.exit(f"the workers ended with {ended}; the same command goes on")
    winners = {json.dumps(json.loads((out / "result.json").read_text())["architecture"]) for out in folders}
    print(f"{len(winners)} winner of {a.workers} workers; reports: {', '.join(str(out / 'report.html') for out in folders)}")


if __name__ == "__main__":
    main()
