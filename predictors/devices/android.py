"""An Android phone on a cable, or over the air, as something to measure on: `adb` brings a network to it and runs it there.

What runs on the phone is `onnxruntime_perf_test`, which is built with ONNX Runtime for Android (`build.sh --android`); its path on this
machine is given once, and it is pushed with the first network. `adb` finds the phone; with several, ANDROID_SERIAL says which.

There is no phone where this was written: it is tested against a stand-in that takes the same commands and prints what the tool prints.
"""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path

from evonas.errors import UsageError
from predictors.devices.runtime import COMMAND_TIMEOUT_S, Backend

FOLDER = "/data/local/tmp/evonas"
RUNS = 50
TOLD = re.compile(r"Average inference time cost(?: total)?:\s*([0-9.eE+-]+)\s*ms")


def android(runner: str | Path, threads: int = 1) -> Backend:
    """A backend that times networks on a phone.

    Args:
        runner: `onnxruntime_perf_test` for the phone's processor, on this machine.
        threads: that a network runs on.

    Raises:
        UsageError: no such file; when run: there is no `adb` or no phone, or what runs there fails or tells no time.
    """
    runner = Path(runner)
    if not runner.is_file():
        raise UsageError(f"There is no file {runner}; expected onnxruntime_perf_test, built for the phone (build.sh --android).")
    pushed: list[bool] = []

    def run(path: Path, input_shape: tuple[int, ...]) -> float:
        there, program = f"{FOLDER}/{path.name}", f"{FOLDER}/{runner.name}"
        if not pushed:
            _adb("shell", "mkdir", "-p", FOLDER)
            _adb("push", str(runner), program)
            _adb("shell", "chmod", "755", program)
            pushed.append(True)
        _adb("push", str(path), there)
        said = _adb("shell", program, "-I", "-m", "times", "-r", str(RUNS), "-x", str(threads), "-y", "1", there)
        _adb("shell", "rm", "-f", there)
        found = TOLD.search(said)
        milliseconds = float(found.group(1)) if found else math.nan
        if not (math.isfinite(milliseconds) and milliseconds > 0):
            last = (said.strip().splitlines() or ["nothing"])[-1]
            raise UsageError(f"{runner.name} on the phone told no time, but: {last[:160]}. Try it by hand: adb shell {program}.")
        return milliseconds

    return run


def _adb(*words: str) -> str:
    try:
        return subprocess.run(["adb", *words], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True).stdout
    except FileNotFoundError:
        raise UsageError("There is no adb here; expected Android's platform tools on PATH.") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"adb {words[0]} took more than {COMMAND_TIMEOUT_S:.0f} s. Is the phone unlocked and reachable?") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or error.stdout.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"adb {words[0]} ended with status {error.returncode}: {said[:160]}. Expected a phone in adb devices.") from None
