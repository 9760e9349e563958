"""Does a run that is killed at random moments end like one that is not?

A small run of every recipe (digits, what is measured given by files) is done once undisturbed. Then, round after round, the same run is
killed with SIGKILL at three to six random moments, started again with the same command each time, and let end; trials, scores and
what they came to are compared. The last line is one JSON object, with what the kills hit.

    python benchmarks/kill.py --kills 100 --out runs/kill
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
from typing import Any

import numpy as np

from evonas import History, open_study
from evonas.files import read_json, write_json
from evonas.space import IDLE, SearchSpace
from evonas.study import space_of
from supernet import cream, mbconv, nasbench201, shuffle

DEPTHS = (1, 2, 2)


RECIPES = {
    "mobile": {"epochs": 25, "retrain-epochs": 25, "evaluations": 400, "peers": 2, "depths": ",".join(map(str, DEPTHS))},
    "spos": {"layout": "digits", "epochs": 8, "retrain-epochs": 8, "evaluations": 100},
    "flash": {"samples": 8, "sample-epochs": 2, "retrain-epochs": 12},
    "setn": {"channels": 4, "epochs": 8, "retrain-epochs": 8, "evaluations": 60},
    "manas": {"space": "nasbench201", "channels": 4, "epochs": 8, "retrain-epochs": 8, "evaluations": 60, "peers": 1},
    "factorized": {"space": "nasbench201", "channels": 4, "epochs": 5, "retrain-epochs": 8, "evaluations": 40},
    "abs": {"layout": "digits", "epochs": 8, "retrain-epochs": 8, "evaluations": 60, "stop-size": 20},
    "neas": {"layout": "digits", "epochs": 8, "retrain-epochs": 8, "evaluations": 60},
    "nse": {"layout": "digits", "depths": "1,1,1", "epochs": 4, "retrain-epochs": 8, "evaluations": 40, "operators": 4},
    "netadaptv2": {"layout": "digits", "epochs": 8, "retrain-epochs": 8, "evaluations": 100, "samples": 10, "step": 0.15},
    "cream": {"epochs": 8, "retrain-epochs": 8, "evaluations": 60},
    "pnas": {"blocks": 2, "beam": 6, "operators": "identity,sep_conv_3x3", "epochs": 1, "filters": 4, "retrain-epochs": 6},
    "shrink": {"epochs": 6, "fine-tune-epochs": 8, "evaluations": 60, "peers": 1},
    "gap": {"networks": 50, "trainings": 1, "alone-epochs": 1, "epochs": 3, "supernets": 1, "causes": ""},
}
STUDIES = {
    **dict.fromkeys(("mobile", "spos", "pnas", "shrink", "netadaptv2", "neas"), ("search", "baseline")),
    **dict.fromkeys(("setn", "manas", "factorized", "abs", "cream"), ("search", "baseline", "epochs")),
    **{"flash": ("samples",), "gap": ("alone-0",), "nse": ("round1", "round2", "search", "baseline", "epochs")},
}
WHAT = ("architecture", "accuracy")
GIVEN = """
from torch import nn
def layer(arriving, leaving, stride=1):
    return nn.Sequential(nn.Conv2d(arriving, leaving, 3, stride, 1, bias=False), nn.BatchNorm2d(leaving), nn.ReLU())
def build():
    return nn.Sequential(layer(1, 32), layer(32, 64, 2), layer(64, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
"""
ONE_SHOT = ("mobile", "spos", "setn", "manas", "factorized", "abs", "netadaptv2", "neas", "nse", "cream", "shrink")
COMPARED = {
    **dict.fromkeys(ONE_SHOT, (*WHAT, "teacher", "finalists", "peers")),
    **dict.fromkeys(("flash", "pnas"), WHAT),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="shared evenly among the recipes")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("runs/kill"))
    a = parser.parse_args()
    shutil.rmtree(a.out, ignore_errors=True)
    a.out.mkdir(parents=True)
    write_table(a.out / "phone.json", mbconv((1, 8, 8), 10, depths=DEPTHS).space)
    write_table(a.out / "board.json", shuffle((1, 8, 8), 10, layout="digits", widths=["1.0"]).space)
    write_table(a.out / "cream.json", cream((1, 8, 8), 10, depths=(1, 3)).space)
    (a.out / "given.py").write_text(GIVEN)
    write_table(a.out / "cells.json", nasbench201((1, 8, 8), 10).space)
    write_json(a.out / "chip.json", {"device": "chip", "latency": {"unit": "ms", "macs": 1e-6, "constant": 0.1}})
    found = {name: killed(name, a.out, -(-a.kills // len(a.recipes)), random.Random(f"{a.seed} {name}")) for name in a.recipes}
    print(json.dumps(found))


def killed(recipe: str, out: Path, kills: int, draw: random.Random) -> dict[str, Any]:
    """Kill a recipe so often; what was hit, and whether all ended as undisturbed."""
    whole, reached, same = out / recipe, [], {"study": True, "result": True}
    start = time.perf_counter()
    subprocess.run(command(recipe, whole, out), env=environment(), check=True, stdout=subprocess.DEVNULL)
    length = time.perf_counter() - start
    rounds = 0
    while len(reached) < kills:
        folder, rounds = out / f"{recipe}{rounds}", rounds + 1
        for _ in range(draw.randint(3, 6)):
            process = subprocess.Popen(
                command(recipe, folder, out), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                process.wait(draw.uniform(0.1, 0.4) * length)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                reached.append(movement(folder))
                print(f"{recipe}: kill {len(reached)}, in {reached[-1]}", flush=True)
            if (folder / "result.json").exists():
                break
        subprocess.run(command(recipe, folder, out), env=environment(), check=True, stdout=subprocess.DEVNULL)
        results = [read_json(path / "result.json") for path in (folder, whole)]
        same["study"] &= all(equal_studies(folder, whole, name) for name in STUDIES[recipe])
        same["result"] &= all(results[0][part] == results[1][part] for part in COMPARED.get(recipe, ("diagnosis", "accuracies")))
    hit = {name: reached.count(name) for name in dict.fromkeys(reached)}
    return {"kills": len(reached), "in": hit, "seconds_undisturbed": round(length, 1), "same_as_undisturbed": same}


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def command(recipe: str, out: Path, shared: Path) -> list[str]:
    options = [word for name, value in {"data": "digits", **RECIPES[recipe]}.items() for word in (f"--{name}", str(value))]
    own = {
        "mobile": ["--budget", "macs=700k", "--budget", "latency=7ms", "--latency-table", str(shared / "phone.json")],
        "spos": ["--budget", "macs=60%", "--latency-table", str(shared / "board.json")],
        "flash": ["--budget", "accuracy=1%..", "--budget", "latency=80%", "--hardware", str(shared / "chip.json")],
        "setn": ["--budget", "macs=60%", "--latency-table", str(shared / "cells.json")],
        "manas": ["--budget", "macs=60%", "--latency-table", str(shared / "cells.json")],
        "factorized": ["--budget", "macs=60%"],
        "abs": ["--budget", "macs=60%"],
        "netadaptv2": ["--budget", "macs=40%"],
        "neas": ["--budget", "macs=60%"],
        "nse": ["--budget", "macs=50%"],
        "cream": ["--budget", "macs=200k..700k", "--latency-table", str(shared / "cream.json")],
        "pnas": ["--budget", "params=60%"],
        "shrink": ["--model", f"{shared / 'given.py'}:build", "--budget", "macs=50%"],
        "gap": [],
    }[recipe]
    return [sys.executable, "-m", "evonas", recipe, *options, *own, "--device", "cpu", "--out", str(out)]


def write_table(path: Path, space: SearchSpace) -> None:
    """A latency table with a number for every operator."""
    rng = np.random.default_rng(0)
    choices = {c.name: {option: 0.0 if option in IDLE else float(rng.uniform(0.5, 3)) for option in c.options} for c in space.choices}
    write_json(path, {"device": "a phone", "unit": "ms", "constant": 0.5, "choices": choices})


def movement(folder: Path) -> str:
    """What a killed run was doing, by what it has left."""
    late = (("model.pt", "deliver"), ("peers.json", "peers"), ("peer0.pt", "peers"))
    race = (("finalist*-0.pt", "finalists"), ("teacher.pt", "teacher"), ("finalists.json", "teacher"))
    for file, name in (*late, ("retrain.pt", "retrain"), ("winner.json", "retrain"), *race):
        if any(folder.glob(file)):
            return name
    if (folder / "study.log").exists() and (folder / "study.log").stat().st_size > 2000:
        return "search"
    return "train" if (folder / "config.json").exists() else "start"


def equal_studies(one: Path, two: Path, name: str) -> bool:
    a, b = (open_study(path / "study.log", name) for path in (one, two))
    ours, theirs = (History.of(study, space_of(b)) for study in (a, b))
    same = len(a.trials) == len(b.trials) and np.array_equal(ours.population, theirs.population)
    return same and np.array_equal(ours.scores, theirs.scores)


if __name__ == "__main__":
    main()
