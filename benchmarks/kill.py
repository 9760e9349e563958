"""Does a run that is killed at random moments end like one that is not?

A small run (digits, one latency table given to all) is done once undisturbed. Then, round after round, the same run is killed
with SIGKILL at three to six random moments, started again with the same command each time, and let end; trials, scores, winner
and accuracies are compared. The last line is one JSON object, with what the kills hit.

    python benchmarks/kill.py --kills 12 --out runs/kill
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from evonas import History, open_study
from evonas.files import read_json, write_json
from evonas.study import space_of
from supernet import mbconv

DEPTHS = (1, 2, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("runs/kill"))
    a = parser.parse_args()
    shutil.rmtree(a.out, ignore_errors=True)
    a.out.mkdir(parents=True)
    table = write_table(a.out / "phone.json")
    start = time.perf_counter()
    subprocess.run(command(a.out / "undisturbed", table), env=environment(), check=True, stdout=subprocess.DEVNULL)
    length = time.perf_counter() - start

    draw, reached, same = random.Random(a.seed), [], {"study": True, "winner": True, "accuracy": True}
    while len(reached) < a.kills:
        folder = a.out / f"round{len(reached)}"
        for _ in range(draw.randint(3, 6)):
            process = subprocess.Popen(command(folder, table), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(draw.uniform(0.1, 0.4) * length)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                reached.append(movement(folder))
                print(f"kill {len(reached)}: in {reached[-1]}", flush=True)
            if (folder / "result.json").exists():
                break
        subprocess.run(command(folder, table), env=environment(), check=True, stdout=subprocess.DEVNULL)
        results = [read_json(path / "result.json") for path in (folder, a.out / "undisturbed")]
        same["study"] &= equal_studies(folder, a.out / "undisturbed")
        same["winner"] &= results[0]["architecture"] == results[1]["architecture"]
        same["accuracy"] &= results[0]["accuracy"] == results[1]["accuracy"]
    hit = {name: reached.count(name) for name in dict.fromkeys(reached)}
    print(json.dumps({"kills": len(reached), "in": hit, "seconds_undisturbed": round(length, 1), "same_as_undisturbed": same}))


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def command(out: Path, table: Path) -> list[str]:
    settings = {"data": "digits", "epochs": 25, "retrain-epochs": 25, "evaluations": 400, "depths": ",".join(map(str, DEPTHS))}
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    bounds = ["--budget", "macs=700k", "--budget", "latency=7ms", "--latency-table", str(table)]
    return [sys.executable, "-m", "recipes", "mobile", *options, *bounds, "--device", "cpu", "--out", str(out)]


def write_table(path: Path) -> Path:
    """A latency table with a number for every operator."""
    rng = np.random.default_rng(0)
    space = mbconv((1, 8, 8), 10, depths=DEPTHS).space
    choices = {c.name: {option: 0.0 if option == "skip" else float(rng.uniform(0.5, 3)) for option in c.options} for c in space.choices}
    write_json(path, {"device": "a phone", "unit": "ms", "constant": 0.5, "choices": choices})
    return path


def movement(folder: Path) -> str:
    """What a killed run was doing, by what it has left."""
    if (folder / "model.pt").exists():
        return "deliver"
    if (folder / "winner.json").exists():
        return "retrain"
    if (folder / "study.log").exists() and (folder / "study.log").stat().st_size > 2000:
        return "search"
    return "train" if (folder / "config.json").exists() else "start"


def equal_studies(one: Path, two: Path) -> bool:
    for name in ("search", "baseline"):
        a, b = (open_study(path / "study.log", name) for path in (one, two))
        ours, theirs = (History.of(study, space_of(b)) for study in (a, b))
        if len(a.trials) != len(b.trials) or not np.array_equal(ours.population, theirs.population):
            return False
        if not np.array_equal(ours.scores, theirs.scores):
            return False
    return True


if __name__ == "__main__":
    main()
