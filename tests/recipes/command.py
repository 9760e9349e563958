"""The command as a user runs it: in a process of its own."""

import os
import subprocess
import sys


def evonas(*arguments, cwd=None, timeout=300):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "recipes.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, env=environment, check=False)
