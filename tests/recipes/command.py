"""The command as a user runs it: in a process of its own, or, where that shows no more and takes seconds, in this one."""

import copy
import io
import os
import subprocess
import sys
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import torch

QUICK = [sys.executable, str(Path(__file__).with_name("quick.py"))]


def evonas(*arguments, cwd=None, timeout=300):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "evonas", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, env=environment, check=False)


def here(*arguments):
    """The entry point in this process; what it returns is like what `evonas` returns."""
    from recipes.runner.cli import main

    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", ["evonas", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


@contextmanager
def stopped_at_checkpoint(number):
    """Within the block a training stops, as by Ctrl-C, when it is about to write its checkpoint of this number."""
    from supernet.training import loop

    left, keep = [number], loop.save_checkpoint

    def stop(*arguments, **more):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return keep(*arguments, **more)

    with mock.patch.object(loop, "save_checkpoint", stop):
        yield


def quick_export(module, input_shape, path, *, dynamic_batch=False):
    """What `predictors.devices.runtime.export` writes, by torch's older exporter, in a tenth of the time."""
    plain = copy.deepcopy(module).to("cpu").to(memory_format=torch.contiguous_format).eval()
    names = {"input_names": ["images"], "output_names": ["outputs"]}
    free = {"dynamic_axes": {"images": {0: "n"}, "outputs": {0: "n"}}} if dynamic_batch else {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(plain, (torch.zeros(2 if dynamic_batch else 1, *input_shape),), str(path), dynamo=False, **names, **free)
