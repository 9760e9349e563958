"""Many workers of one study: how many evaluations, repeats and seconds, how good the best is, and what kills and outages leave.

    python -m benchmarks.workers speed --storages postgresql sqlite journal --workers 1 2 4 8
    python -m benchmarks.workers quality --seeds 10
    python -m benchmarks.workers chaos --minutes 5
    python -m benchmarks.workers gone

`speed`: 400 evaluations of NAS-Bench-201's cells, with the accuracies of the real table, and a fitness that sleeps 0.2 s an evaluation;
evolution. The seconds are those of the search, from the moment when all workers are ready; one worker in the same run is what they are
held against. `quality`: the best of 400 evaluations, of one worker and of eight, by seeds. `chaos`: eight workers, one killed every ten
seconds and started again, the database stopped twice for twenty seconds. `gone`: two of four workers are killed and never return. Rows are
kept in a file and not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.postgres import Postgres
from benchmarks.rows import Rows
from evonas import EvolutionExplorer, RandomExplorer, open_study, search
from evonas.study import REPEATS
from evonas.tabular import nasbench201, nasbench201_space

SECONDS = 0.2
ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "quality", "chaos", "gone", "work"])
    parser.add_argument("--storages", nargs="*", default=["postgresql", "sqlite", "journal"])
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--explorers", nargs="*", default=["evolution"])
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that an evaluation sleeps")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--rows", type=Path, default=Path("runs/workers.jsonl"))
    parser.add_argument("--url", help="of `work`")
    parser.add_argument("--gate", type=Path, help="of `work`: folder in which workers say that they are ready")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    if a.what == "work":
        print(json.dumps(work(a.url, a.explorers[0], a.seed, a.evaluations, a.seconds, a.gate, a.workers[0])))
        return
    rows = Rows(a.rows)
    if a.what == "speed":
        for storage in a.storages:
            for explorer in a.explorers:
                for workers in a.workers:
                    key = f"speed {storage} {explorer} {workers} workers {a.evaluations} x {a.seconds} s"
                    rows.row(key, lambda storage=storage, explorer=explorer, workers=workers: speed(storage, explorer, workers, a))
    elif a.what == "quality":
        for seed in range(a.seeds):
            for workers in (1, 8):
                seconds = 0.0 if workers == 1 else 0.05
                rows.row(f"quality seed {seed} {workers} workers", lambda w=workers, s=seed, t=seconds: quality(w, s, t, a))
        bests = {w: [rows.row(f"quality seed {seed} {w} workers", dict, quiet=True)["best"] for seed in range(a.seeds)] for w in (1, 8)}
        print(json.dumps({f"{w} workers": {"mean": np.mean(best), "sd": np.std(best, ddof=1)} for w, best in bests.items()}))
    else:
        rows.row(f"{a.what} {a.minutes} min", (lambda: chaos(a)) if a.what == "chaos" else (lambda: gone(a)))


def table() -> Any:
    """Accuracies on CIFAR-10 after twelve epochs, of every cell."""
    if "EVONAS_DATA" not in os.environ:
        sys.exit("EVONAS_DATA is not set: expected the folder of the real tables")
    return nasbench201(Path(os.environ["EVONAS_DATA"]) / "nasbench201_accuracy.npz").lookup("ep12_cifar10_val")


def work(url: str, explorer: str, seed: int, evaluations: int, seconds: float, gate: Path | None, workers: int) -> dict[str, Any]:
    """One worker: waits for the others, searches, and says what it ended with."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, accuracies = nasbench201_space(), table()

    def slow(population: Any) -> Any:
        for _ in population:
            time.sleep(seconds)
        return accuracies(population)

    study = open_study(url, "search")
    kind = {"evolution": EvolutionExplorer, "random": RandomExplorer}[explorer](space, seed=seed)
    if gate is not None:
        (gate / str(os.getpid())).touch()
        while len(list(gate.iterdir())) < workers:
            time.sleep(0.01)
    start = time.perf_counter()
    batch = max(kind.generation_size // 4, 1)  # as the recipes do in a storage that others can reach
    found = search(
        space, slow, kind, evaluations=evaluations, study=study, batch=batch, on_note=lambda text: print(text, file=sys.stderr, flush=True)
    )
    took = time.perf_counter() - start
    best = found.history.scored[0]
    return {"seconds": round(took, 2), "evaluations": found.evaluations, "winner": int(found.history.numbers[best])}


@contextmanager
def storage(kind: str) -> Iterator[str]:
    """The URL of an empty storage."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "postgresql":
            with Postgres() as server:
                yield server.url
        else:
            yield f"sqlite:///{folder}/study.db" if kind == "sqlite" else f"{folder}/study.log"


def started(url: str, a: Any, workers: int, gate: Path | None = None, explorer: str = "evolution", seed: int = 0) -> subprocess.Popen[str]:
    """A worker process."""
    arguments = ["--url", url, "--explorers", explorer, "--seed", str(seed), "--evaluations", str(a.evaluations)]
    arguments += ["--seconds", str(a.seconds), "--workers", str(workers), *(["--gate", str(gate)] if gate else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.workers", "work", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def told(study: optuna.Study) -> dict[str, Any]:
    """What a study holds, checked against the table."""
    space, accuracies, trials = nasbench201_space(), table(), study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    rows = np.array([space.from_names(trial.params) for trial in complete])
    return {
        "trials": len(trials),
        "states": dict(Counter(trial.state.name for trial in trials)),
        "evaluations": sum(REPEATS not in trial.user_attrs for trial in complete),
        "repeats": sum(REPEATS in trial.user_attrs for trial in trials),
        "doubled": len(rows) - len(set(space.keys(rows))) - sum(REPEATS in trial.user_attrs for trial in complete),
        "wrong": int((np.array([trial.value for trial in complete]) != accuracies(rows)).sum()),
        "best": float(max(trial.value for trial in complete)),
        "lacked": max((len(trial.system_attrs.get("evonas:lacks", ())) for trial in trials), default=0),
    }


def speed(kind: str, explorer: str, workers: int, a: Any) -> dict[str, Any]:
    """So many workers on a storage."""
    with storage(kind) as url, tempfile.TemporaryDirectory() as gate:
        open_study(url, "search")
        processes = [started(url, a, workers, Path(gate), explorer) for _ in range(workers)]
        ended = [json.loads(process.communicate()[0]) for process in processes]
        found = told(open_study(url, "search"))
    return {"seconds": max(end["seconds"] for end in ended), "winners": len({end["winner"] for end in ended}), **found}


def quality(workers: int, seed: int, seconds: float, a: Any) -> dict[str, Any]:
    """The best after all evaluations."""
    a.seconds = seconds
    with storage("journal") as url, tempfile.TemporaryDirectory() as gate:
        open_study(url, "search")
        for process in [started(url, a, workers, Path(gate), seed=seed) for _ in range(workers)]:
            process.communicate()
        found = told(open_study(url, "search"))
    return {name: found[name] for name in ("best", "evaluations", "repeats", "lacked")}


def chaos(a: Any) -> dict[str, Any]:
    """Eight workers, one killed every ten seconds and started again, the database stopped twice for twenty seconds."""
    a.evaluations = round(a.minutes * 60 * 8)  # more than they can make while they are disturbed
    a.seconds, draw, kills, outages = 0.8, random.Random(0), 0, 0
    with Postgres() as server:
        open_study(server.url, "search")
        processes = [started(server.url, a, 8) for _ in range(8)]
        start = time.monotonic()
        while (passed := time.monotonic() - start) < a.minutes * 60:
            if outages < 2 and passed > (outages + 1) * a.minutes * 20:
                server.stop()
                time.sleep(20)
                server.start()
                outages += 1
            time.sleep(10)
            victim = draw.randrange(len(processes))
            processes[victim].kill()
            processes[victim].wait()
            kills += 1
            processes[victim] = started(server.url, a, 8)
        ended = [json.loads(process.communicate()[0]) for process in processes]
        found = told(open_study(server.url, "search"))
    return {"kills": kills, "outages": outages, "asked": a.evaluations, "winners": len({end["winner"] for end in ended}), **found}


def gone(a: Any) -> dict[str, Any]:
    """Four workers of which two are killed and never return; the others make the rest."""
    a.evaluations = 200
    with Postgres() as server:
        open_study(server.url, "search")
        processes = [started(server.url, a, 4) for _ in range(4)]
        study = open_study(server.url, "search")
        while sum(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)) < 60:
            time.sleep(0.2)
        for process in processes[:2]:
            process.kill()
        ended = [json.loads(process.communicate()[0]) for process in processes[2:]]
        found = told(open_study(server.url, "search"))
    return {"asked": a.evaluations, "winners": len({end["winner"] for end in ended}), **found}


if __name__ == "__main__":
    main()
