"""A device of one's own: ten measurements and nothing else, by a command, by hand, or on a phone."""

import csv
import json
import os
import sys

import numpy as np
import pytest
from command import here

from evonas.errors import UsageError
from predictors.devices.android import android
from predictors.devices.known import MeasuredDevice, read_device, write_device
from supernet import mbconv

SPACE = ["--data", "digits", "--depths", "1,1,1"]


@pytest.fixture(scope="module")
def supernet():
    return mbconv((1, 8, 8), 10, depths=(1, 1, 1))


def test_ten_measurements_of_an_unknown_device_are_enough(tmp_path, supernet):
    """No other file beside it: this host helps, the error on held-out networks is told, and the bound is kept."""
    script = tmp_path / "time_it.py"
    script.write_text("import os, sys\nprint('latency', 1e-5 * os.path.getsize(sys.argv[1]) + 0.5)\n")
    board = tmp_path / "devices" / "board.csv"
    measured = here("measure", *SPACE, "--command", f"{sys.executable} {script} {{file}}", "--out", board)
    assert measured.returncode == 0, measured.stderr
    assert len(read_device(board, supernet.space).population) == 10
    quick = ["--epochs", "1", "--retrain-epochs", "1", "--evaluations", "8", "--finalists", "1", "--teacher", "none", "--device", "cpu"]
    done = here("mobile", *SPACE, *quick, "--latency-table", board, "--budget", "latency=60%", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "latency of board: 10 measured networks and this host; held out: 10 networks measured whole: mean error" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["costs"]["latency"] <= result["bounds"]["latency"]["upper"]
    assert result["latency"]["device"] == "board"


def test_networks_are_measured_by_hand(tmp_path, supernet):
    folder, board = tmp_path / "networks", tmp_path / "board.csv"
    assert here("measure", *SPACE, "--networks", "4", "--export", folder, "--out", board).returncode == 0
    assert not board.exists()
    lines = list(csv.DictReader((folder / "networks.csv").open()))
    assert [(folder / line["file"]).exists() for line in lines] == [True] * 4
    nothing = here("measure", *SPACE, "--import", folder / "networks.csv", "--out", board)
    assert (nothing.returncode, "holds no milliseconds" in nothing.stderr) == (2, True)
    for line, milliseconds in zip(lines, ("1.5", "2.5", "", "4"), strict=True):
        line["milliseconds"] = milliseconds
    with (folder / "networks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    done = here("measure", *SPACE, "--import", folder / "networks.csv", "--out", board)
    assert done.returncode == 0, done.stderr
    assert "1 of 4 networks have no milliseconds yet" in done.stdout
    device = read_device(board, supernet.space)
    assert device.milliseconds.tolist() == [1.5, 2.5, 4.0]
    named = {name: cell for name, cell in lines[3].items() if name not in ("file", "milliseconds")}
    assert supernet.space.from_names(named) == tuple(device.population[2].tolist())
    both = here("measure", *SPACE, "--import", folder / "networks.csv", "--export", folder, "--out", board)
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)


ADB = """#!{python}
import os, sys
words, here = sys.argv[1:], {folder!r}
open(os.path.join(here, "log"), "a").write(" ".join(words) + "\\n")
path = lambda name: os.path.join(here, "phone", os.path.basename(name))
if words[0] == "push":
    os.makedirs(os.path.join(here, "phone"), exist_ok=True)
    open(path(words[2]), "wb").write(open(words[1], "rb").read())
elif words[:2] == ["shell", "rm"]:
    os.remove(path(words[3]))
elif words[0] == "shell" and words[1].endswith("perf_test"):
    assert os.path.exists(path(words[1])) and words[2:7] == ["-I", "-m", "times", "-r", "50"]
    size = os.path.getsize(path(words[-1]))
    print("Session creation time cost: 0.0134 s\\nFirst inference time cost: 9 ms\\nTotal inference time cost: 0.3 s")
    print(f"Total inference requests: 50\\nAverage inference time cost total: {{size / 1000}} ms" if {works} else "Segmentation fault")
"""


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """A stand-in for `adb` on PATH that takes the same commands."""

    def plug_in(works=True):
        program = tmp_path / "bin" / "adb"
        program.parent.mkdir(exist_ok=True)
        program.write_text(ADB.format(python=sys.executable, folder=str(tmp_path), works=works))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    (tmp_path / "onnxruntime_perf_test").write_bytes(b"for the phone")
    return plug_in


def test_a_phone_is_measured_over_adb(tmp_path, phone):
    phone()
    board, runner = tmp_path / "pixel.csv", tmp_path / "onnxruntime_perf_test"
    done = here("measure", *SPACE, "--networks", "3", "--android", runner, "--out", board)
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "log").read_text().splitlines()
    assert sum(line.startswith("push") and line.endswith("perf_test") for line in commands) == 1, "the runner goes there once"
    assert sorted(os.listdir(tmp_path / "phone")) == ["onnxruntime_perf_test"], "networks do not stay on the phone"
    assert len(board.read_text().splitlines()) == 4


def test_a_phone_that_does_not_answer_is_one_line(tmp_path, phone, monkeypatch):
    with pytest.raises(UsageError, match="There is no file"):
        android(tmp_path / "none")
    runner = tmp_path / "onnxruntime_perf_test"
    (tmp_path / "a.onnx").write_bytes(b"network")
    phone(works=False)
    with pytest.raises(UsageError, match="told no time, but: Segmentation fault"):
        android(runner)(tmp_path / "a.onnx", (1, 8, 8))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="There is no adb here"):
        android(runner)(tmp_path / "a.onnx", (1, 8, 8))


def test_devices_are_shown_with_those_that_they_are_like(tmp_path, supernet, rng, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    rows = np.unique(supernet.space.sample(30, rng), axis=0)
    fast = 1.0 + np.arange(len(rows))
    for name, some, milliseconds in (("a", rows, fast), ("b", rows, 3 * fast**2), ("c", rows[:8], fast[:8][::-1])):
        write_device(tmp_path / f"{name}.csv", supernet.space, MeasuredDevice(name, some, milliseconds))
    done = here("devices", tmp_path)
    assert done.returncode == 0, done.stderr
    table = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("│")}
    assert " 1.00 " in table["a"]
    assert "-1.00" in table["a"]
    assert "too few to teach others: c" in done.stdout
    for wrong, said in ((tmp_path / "none", "There is no device file"), (tmp_path / "bad", "is no device file")):
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / "x.csv").write_text("a,b\n1,2\n")
        refused = here("devices", wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert said in refused.stderr


def test_the_size_of_the_file_is_a_bound(monkeypatch):
    """In bytes; it is a cost only where it is asked for."""
    monkeypatch.setenv("COLUMNS", "200")
    with_size = here("mobile", *SPACE, "--budget", "size=100kB", "--device", "cpu", "--dry-run", "--out", "nowhere")
    assert with_size.returncode == 0, with_size.stderr
    assert "budget: size <= 100 kB" in with_size.stdout
    small = here("mobile", *SPACE, "--budget", "size=1kB", "--device", "cpu", "--dry-run", "--out", "nowhere")
    assert (small.returncode, "smallest reachable value is" in small.stderr) == (2, True)
