"""The command as a user meets it: a whole small run, continuing it, and one line for whatever is wrong."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from command import QUICK, evonas, here, quick_export
from PIL import Image

from evonas import History
from evonas.app import App
from evonas.study import open_study, space_of
from predictors.devices.runtime import run as run_onnx
from recipes.runner.delivery import load_model
from supernet import load, mbconv

SMALL = ["--data", "digits", "--epochs", "3", "--retrain-epochs", "4", "--evaluations", "60", "--depths", "1,2,1", "--device", "cpu"]


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    """A latency table of a device that is not here: a number for every operator."""
    space = mbconv((1, 8, 8), 10, depths=(1, 2, 1)).space
    cost = {"skip": 0.0, "mb3_k3": 1.0, "mb3_k5": 1.3, "mb3_k7": 1.7, "mb6_k3": 1.8, "mb6_k5": 2.3, "mb6_k7": 3.0}
    choices = {choice.name: {option: cost[option] for option in choice.options} for choice in space.choices}
    path = tmp_path_factory.mktemp("table") / "phone.json"
    path.write_text(json.dumps({"device": "a phone", "unit": "ms", "constant": 0.5, "choices": choices}))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, table_file):
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = evonas("mobile", *SMALL, "--budget", "macs=700k", "--budget", "latency=6ms", "--latency-table", table_file, "--out", out)
    assert done.returncode == 0, done.stderr + done.stdout
    return out, done.stdout


@pytest.fixture(autouse=True)
def quick_files(request, monkeypatch):
    """Of all runs but `finished`, whose files are looked at: it is made before, where a test asks for it."""
    if "finished" in request.fixturenames:
        request.getfixturevalue("finished")
    monkeypatch.setattr("predictors.devices.runtime.export", quick_export)


def test_a_run_delivers_what_it_promises(finished):
    out, printed = finished
    result = json.loads((out / "result.json").read_text())
    assert result["costs"]["macs"] <= 700e3
    assert result["costs"]["latency"] <= 6
    assert set(result) >= {"architecture", "budget", "costs", "accuracy", "baseline", "seed", "versions"}
    assert 0.5 < result["accuracy"]["test"] <= 1
    data = load("digits")
    images, labels = next(data.test.batches(500, torch.device("cpu")))
    network = load_model(out / "model.pt")
    with torch.no_grad():
        logits = network(images)
    assert (logits.argmax(1) == labels).double().mean().item() == pytest.approx(result["accuracy"]["test"])
    assert np.abs(run_onnx(out / "model.onnx", images.numpy()) - logits.numpy()).max() <= 1e-4
    for name in ("report.html", "accuracy_macs.png", "accuracy_latency.png", "best_so_far.png", "predicted.png", "architecture.png"):
        assert (out / name).stat().st_size > 1000, name
    page = (out / "report.html").read_text()
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r'src="(?!data:image/png;base64,)', outside) == [], "the page is one file"
    told = result["pieces"]
    assert sum(piece["macs"] for piece in told) == result["costs"]["macs"]
    assert [piece["option"] for piece in told if piece["option"]] == [name for name in result["architecture"].values() if name != "skip"]
    assert not any("ms" in piece for piece in told)  # of another device
    assert (result["input"]["image_shape"], result["input"]["test_images"]) == ([1, 8, 8], len(labels))
    assert f"<h1>{100 * result['accuracy']['test']:.2f} % on digits with" in page
    assert "smallest" in printed
    assert "random networks meet it" in printed


def test_every_trial_is_in_the_study_with_costs_and_constraints(finished):
    out, _ = finished
    for name in ("search", "baseline"):
        study = open_study(out / "study.log", name)
        assert len(study.trials) == 60
        for trial in study.trials:
            assert trial.state == optuna.trial.TrialState.COMPLETE
            assert trial.user_attrs["macs"] <= 700e3
            assert trial.user_attrs["latency_ms"] <= 6
            assert max(trial.system_attrs["constraints"]) <= 0


def test_the_same_command_again_changes_nothing_and_other_arguments_are_refused(finished, table_file, monkeypatch):
    monkeypatch.undo()  # files as those of `finished`
    out, _ = finished
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".json", ".log", ".pt")}
    same = ["mobile", *SMALL, "--budget", "macs=700k", "--budget", "latency=6ms", "--latency-table", table_file, "--out", out]
    assert here(*same).returncode == 0
    after = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".json", ".log", ".pt")}
    assert {name for name in before if before[name] != after[name]} <= {"model.pt", "retrain.pt"}  # torch writes archives anew
    other = here(*same, "--seed", "1")
    assert other.returncode == 2
    assert "was made with seed=0, not 1" in other.stderr


def test_a_trained_supernet_is_searched_again_under_another_budget(finished, table_file, tmp_path):
    out, _ = finished
    done = here(
        "mobile",
        *SMALL,
        "--budget",
        "macs=500k",
        "--latency-table",
        table_file,
        "--supernet",
        out,
        "--out",
        tmp_path / "second",
        "--inherit",
        "--finalists",
        "1",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "second" / "result.json").read_text())
    assert result["costs"]["macs"] <= 500e3
    assert not (tmp_path / "second" / "supernet.pt").exists()
    wrong = here("mobile", "--data", "digits", "--latency-table", table_file, "--supernet", out, "--out", tmp_path / "third")
    assert wrong.returncode == 2


def test_peers_are_asked_for_later_and_said_where_the_winner_stands(finished, table_file, tmp_path):
    """Of a finished run, each trained as the winner; a run without them says whether it beat random search."""
    out = tmp_path / "with peers"
    shutil.copytree(finished[0], out)
    before = json.loads((out / "result.json").read_text())
    assert f"random search with as many evaluations ({before['baseline']['evaluations']})" in before["said"]
    assert ("The search beat" in before["said"]) == (max(entry["score"] for entry in before["tried"]) > before["baseline"]["score"])
    same = ["mobile", *SMALL, "--budget", "macs=700k", "--budget", "latency=6ms", "--latency-table", table_file, "--out", out]
    done = here(*same, "--peers", "2")
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text())
    other = ("said", "peers", "onnx_difference")  # the file was written by another exporter
    assert {name: result[name] for name in before if name not in other} == {n: before[n] for n in before if n not in other}
    assert len(result["peers"]) == 2
    ahead = sum(result["accuracy"]["test"] > peer["test"] for peer in result["peers"])
    assert result["said"].startswith(
        f"ahead of {ahead} of 2 random networks of its budget; {100 * result['accuracy']['test']:.2f} % against "
    )
    assert all(peer["costs"]["macs"] <= 700e3 and peer["costs"]["latency"] <= 6 for peer in result["peers"])
    assert f"ahead of {ahead} of 2".replace("ahead", "Ahead", 1) in (out / "report.html").read_text()
    assert not list(out.glob("peer[0-9]*"))
    assert not list(out.glob("finalist[0-9]*"))


def test_report_is_written_again(finished):
    out, _ = finished
    (out / "report.html").unlink()
    assert here("report", out).returncode == 0
    assert "a phone" in (out / "report.html").read_text()


def trials_of(folder):
    """Lines of the journal: one or two a trial."""
    journal = folder / "study.log"
    return len(journal.read_bytes().splitlines()) if journal.exists() else 0


MOMENTS = {
    "while the search runs": lambda out: trials_of(out) > 40,
    "while the winner is trained": lambda out: (out / "retrain.pt").exists(),
}


def started(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*QUICK, *map(str, command)], env=environment, stdout=subprocess.DEVNULL)


def killed_when(command, out, reached):
    """Start the command and end it with SIGKILL as soon as something can be seen of it in the run folder."""
    process = started(command)
    while not reached(out):
        assert process.poll() is None, "the command ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the command had ended already"


def test_killed_runs_end_like_an_undisturbed_one(table_file, tmp_path):
    """Two kills here, each in another movement, while another process does the same undisturbed; `benchmarks/kill.py` does many."""
    smaller = ["--evaluations", "60", "--epochs", "3", "--retrain-epochs", "3", "--finalists", "1"]
    command = ["mobile", *SMALL, *smaller, "--budget", "macs=700k", "--latency-table", table_file, "--out"]
    whole, again = tmp_path / "undisturbed", tmp_path / "again"
    undisturbed = started([*command, whole])
    for reached in MOMENTS.values():
        killed_when([*command, again], again, reached)
        assert not (again / "result.json").exists()
    assert started([*command, again]).wait(300) == 0
    assert undisturbed.wait(300) == 0
    for name in ("search", "baseline"):
        ours, theirs = (open_study(path / "study.log", name) for path in (again, whole))
        space = space_of(theirs)
        one, two = History.of(ours, space), History.of(theirs, space)
        np.testing.assert_array_equal(one.population, two.population)
        np.testing.assert_array_equal(one.scores, two.scores)
    results = [json.loads((path / "result.json").read_text()) for path in (again, whole)]
    assert results[0] == results[1]


def test_a_second_process_on_a_run_folder_is_refused(table_file, tmp_path):
    import filelock

    with filelock.FileLock(tmp_path / ".lock"):
        second = here("mobile", *SMALL, "--latency-table", table_file, "--out", tmp_path)
    assert second.returncode == 2
    assert "Another process works in" in second.stderr


BAD = {
    "unknown data": (["--data", "digit"], "Did you mean 'digits'"),
    "missing file": (["--data", "none.npz"], "no file none.npz"),
    "unknown layout": (["--layout", "tini"], "Did you mean 'tiny'"),
    "unknown cost": (["--budget", "mac=3M"], "Did you mean 'macs'"),
    "malformed number": (["--budget", "macs=3x"], "Unknown suffix 'x'"),
    "malformed bound": (["--budget", "macs"], "NAME=UPPER"),
    "malformed latency": (["--budget", "latency=fast"], "Malformed number 'fast'"),
    "unreachable macs": (["--budget", "macs=1k"], "smallest reachable value is"),
    "unreachable latency": (["--budget", "latency=0.1ms"], "smallest reachable value is 2.5 ms"),
    "malformed list": (["--widths", "a,b"], "whole numbers with commas"),
    "wrong table": (["--latency-table", "none.json"], "no file none.json"),
    "broken storage": (["--storage", "nonsense://x"], "Cannot open the storage"),
    "no trained supernet": (["--supernet", "nowhere"], "no checkpoint nowhere/supernet.pt"),
    "unknown option": (["--epoch", "3"], "--epoch"),
    "no number": (["--epochs", "x"], "Invalid value for '--epochs'"),
    "negative": (["--epochs", "-3"], "Invalid value for '--epochs'"),
    "unknown device": (["--device", "tpu"], "Cannot use the device 'tpu'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, table_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, words = BAD[case]
    if "--latency-table" not in arguments:
        arguments = ["--latency-table", str(table_file), *arguments]
    done = here("mobile", *SMALL, "--out", "runs/x", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [] or case in ("no trained supernet",), left


def test_outputs_that_cannot_be_written(table_file, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "x"):
        done = here("mobile", *SMALL, "--latency-table", table_file, "--out", out)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "Cannot write to" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    done = here("mobile", *SMALL, "--latency-table", table_file, "--out", tmp_path / "mine", "--fresh")
    assert done.returncode == 2
    assert "holds files but no run" in done.stderr
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_damaged_checkpoint_is_named_and_fresh_starts_over(finished, table_file, tmp_path, monkeypatch):
    monkeypatch.undo()  # files as those of `finished`
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    (out / "supernet.pt").write_bytes(b"rubbish")
    same = ["mobile", *SMALL, "--budget", "macs=700k", "--budget", "latency=6ms", "--latency-table", table_file, "--out", out]
    done = here(*same)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Cannot read the checkpoint" in done.stderr
    (out / "notes.txt").write_text("mine")
    refused = here(*same, "--fresh", "--budget", "params=1")
    assert refused.returncode == 2
    assert (out / "result.json").exists(), "a refused start over destroyed the earlier run"
    assert here(*same, "--fresh").returncode == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert json.loads((out / "result.json").read_text()) == json.loads((finished[0] / "result.json").read_text())


def test_the_delivered_file_alone_says_what_is_on_an_image(finished, tmp_path):
    """`evonas predict`, and a bare environment: nothing but ONNX Runtime, raw bytes in, the classes in the file."""
    out, data = finished[0], load("digits")
    images = (data.test.images[:40] * (255 / 16)).round().numpy().astype(np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image[0]).save(tmp_path / f"{i:02}.png")
    done = here("predict", out, tmp_path, "--csv")
    assert done.returncode == 0, done.stderr
    named = [line.split(",")[1] for line in done.stdout.splitlines()]
    np.save(tmp_path / "images.npy", images)
    code = """
import json, sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
outputs = session.run(["probabilities"], {"image": numpy.load(sys.argv[2])})[0]
assert abs(outputs.sum(axis=1) - 1).max() < 1e-5 and "torch" not in sys.modules
print(*(classes[i] for i in outputs.argmax(axis=1)))
"""
    bare = subprocess.run(
        [sys.executable, "-c", code, out / "app.onnx", tmp_path / "images.npy"], capture_output=True, text=True, check=True
    )
    assert bare.stdout.split() == named
    with torch.no_grad():
        logits = load_model(out / "model.pt")((torch.tensor(images) * (16 / 255) - data.test.mean) / data.test.scale)
    assert [str(int(i)) for i in logits.argmax(1)] == named


def test_eight_bits_cost_little_accuracy_and_say_so(finished, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    done = here("export", out, "--int8", "--licence", "MIT")
    assert done.returncode == 0, done.stderr
    figures = json.loads((out / "export.json").read_text())
    assert figures["model-int8.onnx"]["test"] >= figures["model.onnx"]["test"] - 0.03
    assert f"test accuracy {100 * figures['model-int8.onnx']['test']:.2f} % instead of" in done.stdout
    assert (out / "model-int8.onnx").stat().st_size < 0.7 * (out / "model.onnx").stat().st_size
    assert App(out / "app.onnx").told["licence"] == "MIT"
    assert App(out / "app-int8.onnx").told["accuracy"] == f"{figures['model-int8.onnx']['test']:.4f}"
    nothing = tmp_path / "none"
    for missing, said in ((["export", nothing], "There is no model.pt"), (["predict", nothing, "x.png"], "There is no file")):
        done = here(*missing)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr


def test_debug_shows_where():
    done = here("mobile", "--data", "digit", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_unknown_commands_and_help(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert "Did you mean 'mobile'" in here("mobil").stderr
    for command in ([], ["mobile"], ["report"], ["dashboard"], ["list"]):
        done = here(*command, "--help")
        assert done.returncode == 0
        assert "Traceback" not in done.stderr
    assert "latency=30%" in here("mobile", "--help").stdout


def test_list_shows_everything_that_is_registered():
    from evonas import EXPLORERS
    from predictors.screens import SCREENS
    from recipes.runner.registry import RECIPES
    from supernet.loading import DATA_SETS
    from supernet.spaces import SPACES
    from supernet.training.registry import WAYS

    printed = here("list").stdout
    for name in (*RECIPES, *EXPLORERS, *SPACES, *WAYS, *SCREENS, *DATA_SETS):
        assert name in printed


def test_report_and_dashboard_of_no_run(tmp_path):
    for command in ("report", "dashboard"):
        done = here(command, tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "There is no" in done.stderr


def test_the_dashboard_knows_trials_and_constraints(finished):
    """The served API gives every trial with its constraints, which is what the page draws from."""
    out, _ = finished
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "recipes", "dashboard", str(out), "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/api/studies"
        for _ in range(100):
            try:
                studies = json.load(urllib.request.urlopen(address))["study_summaries"]
                break
            except OSError:
                time.sleep(0.3)
        number = next(s["study_id"] for s in studies if s["study_name"] == "search")
        trials = json.load(urllib.request.urlopen(f"{address}/{number}?after=0"))["trials"]
    finally:
        server.kill()
        server.wait()
    stored = open_study(out / "study.log", "search").trials
    assert len(trials) == 60
    for shown, trial in zip(trials, stored, strict=True):
        assert shown["constraints"] == trial.system_attrs["constraints"]
        assert {"key": "budget", "value": "kept"} in shown["user_attrs"]


def test_the_readme_runs(tmp_path):
    """Every Python block of the README, each with names of its own, in a fresh interpreter."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    blocks = [block.split("```")[0] for block in readme.split("```python\n")[1:]]
    assert len(blocks) > 5
    code = "import json, sys\nfor block in json.load(sys.stdin): exec(compile(block, block, 'exec'), {'__name__': '__main__'})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=json.dumps(blocks), capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_readme():
    """Every option that the README uses exists."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    lines = [line for line in readme.splitlines() if line.startswith("evonas ") and not line.startswith("evonas -")]
    assert len(lines) >= 3
    printed = {command: here(command, "--help").stdout for command in {line.split()[1] for line in lines}}
    for line in lines:
        assert not [word for word in line.split() if word.startswith("--") and word not in printed[line.split()[1]]], line


@pytest.mark.serial
def test_a_run_that_measures_this_host(tmp_path, monkeypatch):
    """The first command of the README, with less training: blocks and the winner are measured, and the winner keeps the bounds."""
    command = ["mobile", "--data", "digits", "--budget", "macs=600k", "--budget", "latency=30%", "--out", "digits"]
    small = ["--epochs", "2", "--retrain-epochs", "4", "--evaluations", "20", "--depths", "1,1,1", "--widths", "8,12,16"]
    monkeypatch.chdir(tmp_path)
    done = here(*command, *small)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "digits" / "result.json").read_text())
    bound = result["bounds"]["latency"]["upper"]
    assert all(entry["fits"] == (entry["costs"]["latency"] <= bound) for entry in result["tried"])
    fit = [entry for entry in result["tried"] if entry["fits"]]
    assert result["costs"]["latency"] == next(e["costs"]["latency"] for e in fit if e["architecture"] == result["architecture"]) <= bound
    chosen = json.loads((tmp_path / "digits" / "finalists.json").read_text())["finalists"]
    assert all(entry in fit for entry in chosen)
    of_two = [entry["architecture"] for entry in chosen[:2]]  # four epochs: two finalists of two epochs each
    assert [entry["architecture"] for entry in result["finalists"]] == of_two
    assert result["latency"]["residual"]["networks"] == 10
    assert all(piece["ms"] > 0 for piece in result["pieces"])
    assert "10 networks measured whole: mean error" in done.stdout
