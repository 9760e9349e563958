"""The command as a user runs it: in a process of its own, or, where that shows no more and takes seconds, in this one."""

import io
import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest import mock


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
