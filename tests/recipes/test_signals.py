"""A run that is asked to stop says where it stands and how it goes on, and ends with 128 and the signal's number."""

import os
import signal
import subprocess
import sys
import time

import pytest

RUN = ["--data", "digits", "--epochs", "300", "--depths", "1,2,1", "--device", "cpu", "--evaluations", "20"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    import json

    from supernet import mbconv

    space = mbconv((1, 8, 8), 10, depths=(1, 2, 1)).space
    path = tmp_path_factory.mktemp("table") / "t.json"
    choices = {choice.name: {option: 1.0 + i for i, option in enumerate(choice.options)} for choice in space.choices}
    path.write_text(json.dumps({"unit": "ms", "choices": choices}))
    return path


def stopped(command, out, number):
    """Send the signal when the supernet is being trained; status and what was said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 90
    while not (out / "supernet.pt").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    return process.wait(60), process.stderr.read()


@pytest.mark.serial
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])  # SIGTERM: below
def test_a_stopped_run_says_where_it_stands(name, table, tmp_path):
    number, out = getattr(signal, name), tmp_path / "run"
    command = [sys.executable, "-m", "recipes", "mobile", *RUN, "--latency-table", str(table), "--out", str(out)]
    status, said = stopped(command, out, number)
    assert status == 128 + number
    assert said.count("\n") == 1
    assert f"Stopped by {name} at " in said
    assert "% of: train supernet. The same command goes on" in said


@pytest.mark.serial
def test_under_torchrun_the_first_process_says_so_and_none_is_left(table, tmp_path):
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29613", "-m", "recipes"]
    command = [*torchrun, "mobile", *RUN, "--latency-table", str(table), "--out", str(out)]
    status, said = stopped(command, out, signal.SIGTERM)
    assert status != 0
    assert said.count("evonas: Stopped by SIGTERM") == 1
    time.sleep(0.5)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in listed.splitlines() if str(out) in line and "pytest" not in line]


def test_a_second_signal_ends_at_once_and_children_have_nothing_to_say():
    code = """
import os, signal
from recipes.runner.signals import Stopped, stoppable
with stoppable():
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Stopped as stopped:
        assert stopped.number == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, ""), done.stderr


def test_ctrl_c_anywhere_is_our_line(monkeypatch):
    from command import here

    from recipes.runner import measure

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(measure, "load", interrupted)
    done = here("measure", "--out", "x.csv")
    assert (done.returncode, done.stderr) == (130, "evonas: Stopped by SIGINT.\n"), done.stderr
