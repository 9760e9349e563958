"""Golden runs: what the recipes found on tiny runs of one seed, recorded before the ground floor was rebuilt,
and anew since `mobile` and `spos` rank by fused scores and have finalists.

    python tests/recipes/golden.py     # records anew; only where a change of results is wanted, and say why

A summary reads the run folder with Optuna and JSON alone, so that it says the same of every version of the project. Roundings differ
between processors and versions of torch: `canary` trains with plain torch, and where its digits differ, nothing can be compared.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

FIXTURE = Path(__file__).with_name("golden.json")
OPERATORS = {"skip": 0.0, "mb3_k3": 1.0, "mb3_k5": 1.3, "mb3_k7": 1.7, "mb6_k3": 1.8, "mb6_k5": 2.3, "mb6_k7": 3.0}
UNITS = {"shuffle_k3": 1.0, "shuffle_k5": 1.2, "shuffle_k7": 1.5, "xception": 2.0}
WIDTHS = ("0.2", "0.4", "0.6", "0.8", "1.0", "1.2", "1.4", "1.6")

RUNS = {
    "mobile": "mobile --epochs 3 --retrain-epochs 3 --evaluations 120 --depths 1,2,1 --budget macs=700k --latency-table phone.json",
    "spos": "spos --search joint --epochs 4 --retrain-epochs 2 --evaluations 60 --budget macs=60% --latency-table board.json",
    "flash": "flash --samples 8 --sample-epochs 2 --retrain-epochs 2 --budget accuracy=60%.. --budget latency=50% --hardware chip.json",
    "gap": "gap --networks 50 --trainings 1 --alone-epochs 1 --epochs 2 --supernets 2 --causes AB --final-steps 2 --batch-size 32",
}
STUDIES = {"mobile": ("search", "baseline"), "spos": ("search", "baseline"), "flash": ("samples",), "gap": ("alone-0",)}


def prepare(folder):
    """The images and the device files of all runs."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 16).clip(0, 255).astype(np.uint8)
    np.savez(
        folder / "images.npz", x_train=images[:400], y_train=digits.target[:400], x_test=images[400:600], y_test=digits.target[400:600]
    )
    layers = [f"stage{s}.block{b}" for s, depth in enumerate((1, 2, 1)) for b in range(depth)]
    choices = {f"{layer}.op": dict(OPERATORS) for layer in layers}
    del choices["stage1.block0.op"]["skip"], choices["stage2.block0.op"]["skip"]
    (folder / "phone.json").write_text(json.dumps({"device": "a phone", "unit": "ms", "constant": 0.5, "choices": choices}))
    layers = [f"stage{s}.block{b}" for s, depth in enumerate((2, 3)) for b in range(depth)]
    pairs = {f"{unit},{width}": ms * float(width) for unit, ms in UNITS.items() for width in WIDTHS}
    choices = {f"{layer}.op,{layer}.width": pairs for layer in layers}
    (folder / "board.json").write_text(json.dumps({"device": "a board", "unit": "ms", "constant": 0.5, "choices": choices}))
    latency = {"unit": "ms", "macs": 1e-6, "layers": 0.05, "constant": 0.1}
    (folder / "chip.json").write_text(json.dumps({"device": "a chip", "latency": latency}))


def arguments(name):
    """Of one run, in the folder that `prepare` filled."""
    return [*RUNS[name].split(), "--data", "images.npz", "--device", "cpu", "--out", name]


def run(name, folder):
    """Run one recipe as a user does, on one thread; its run folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = Path(sys.executable).with_name("evonas")
    done = subprocess.run([program, *arguments(name)], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / name


def summary(name, path):
    """Trials, scores and winner, as plain data."""
    storage = JournalStorage(JournalFileBackend(str(path / "study.log")))
    trials = {}
    for study in STUDIES[name]:
        found = optuna.load_study(study_name=study, storage=storage).get_trials(deepcopy=False)
        trials[study] = [["/".join(trial.params.values()), trial.value] for trial in found]
    result = json.loads((path / "result.json").read_text())
    if name != "gap":
        finalists = {"finalists": result["finalists"]} if "finalists" in result else {}
        return {"trials": trials, "architecture": result["architecture"], "accuracy": result["accuracy"], **finalists}
    diagnosis = result["diagnosis"]
    causes = [[cause["name"], cause["tau_present"], cause["tau_removed"]] for cause in diagnosis["causes"]]
    baselines = {score: found["tau"] for score, found in diagnosis["baselines"].items()}
    taus = {"accuracy": diagnosis["supernet"]["tau"], "likelihood": diagnosis["variants"]["likelihood"]["tau"], **baselines}
    return {"trials": trials, "taus": taus, "causes": causes, "shared": result["accuracies"]["shared"]}


def canary():
    """Digits of a training with plain torch on one thread: equal where results can be compared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [torch.nn.Conv2d(1, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU6(), torch.nn.Conv2d(16, 24, 3, groups=8)]
            network = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(384, 10)).to(memory_format=torch.channels_last)
            optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
            for _ in range(50):
                images, labels = torch.randn(48, 1, 8, 8), torch.randint(10, (48,))
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(images), labels).backward()
                optimizer.step()
            return float(sum(parameter.detach().double().abs().sum() for parameter in network.parameters())).hex()
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        prepare(Path(temporary))
        recorded = {name: summary(name, run(name, Path(temporary))) for name in RUNS}
    FIXTURE.write_text(json.dumps({"canary": canary(), "torch": torch.__version__, "runs": recorded}) + "\n")
