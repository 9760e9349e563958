"""A module as an ONNX file, run: the delivery format, the check of it, and measured latency.

ONNX Runtime with one thread on this host is the stand-in for a phone. A `Backend` of your own (a phone on a cable, a board in
the rack) takes its place wherever one is asked for.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import logging
import math
import shlex
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evonas.errors import UsageError, first_line
from evonas.files import written_whole

COMMAND_TIMEOUT_S = 600.0

Backend = Callable[[Path, tuple[int, ...]], float]
"""(ONNX file, shape of one image) -> milliseconds of one image."""


def export(module: nn.Module, input_shape: tuple[int, ...], path: Path, *, dynamic_batch: bool = False) -> None:
    """Write `module` in evaluation mode as one ONNX file, whole or not at all.

    Args:
        module: takes images (n, channels, height, width); left as it is.
        input_shape: (channels, height, width).
        path: of the file.
        dynamic_batch: let the first dimension vary; a batch of one otherwise, as it is timed.
    """
    _list_operators_once()
    plain = copy.deepcopy(module).to("cpu").to(memory_format=torch.contiguous_format).eval()
    images = torch.zeros(2 if dynamic_batch else 1, *input_shape)
    shapes = ({0: torch.export.Dim("images")},) if dynamic_batch else None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), written_whole(path) as temporary, torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            plain,
            (images,),
            str(temporary),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["images"],
            output_names=["outputs"],
            dynamic_shapes=shapes,
        )


def export_to_time(module: nn.Module, input_shape: tuple[int, ...], path: Path) -> None:
    """Write an ONNX file that is only timed: by torch's older exporter, which takes about a tenth of the time of `export`.

    ONNX Runtime runs both files equally fast: within 5 % on seven networks of torchvision at 32 and 64 pixels, one thread.
    What the older one cannot write, or a torch without it, goes through `export`.
    """
    plain = copy.deepcopy(module).to("cpu").to(memory_format=torch.contiguous_format).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                plain,
                (torch.zeros(1, *input_shape),),
                str(path),
                dynamo=False,
                verbose=False,
                input_names=["images"],
                output_names=["outputs"],
            )
        except Exception:
            export(module, input_shape, path)


def describe(path: Path, told: Mapping[str, str]) -> None:
    """Keep text in the metadata of an ONNX file, which its sessions show as `get_modelmeta().custom_metadata_map`."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(told))
    with written_whole(path) as temporary:
        onnx.save(model, temporary)


@functools.cache
def _list_operators_once() -> None:
    """torch's exporter lists the operators of onnxscript by reading their source again for every export, more than half of its time.

    Here it reads them once in a process. Where a version of torch has them elsewhere, exports only take longer.
    """
    with contextlib.suppress(ImportError, AttributeError):
        interface: Any = importlib.import_module("torch.onnx._internal.exporter._registration").onnxscript_apis
        interface.get_torchlib_ops = functools.cache(interface.get_torchlib_ops)


def session(path: Path, threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UsageError(f"Cannot run {path}: {first_line(error)}. Expected a whole ONNX file; write it again.") from None


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """Outputs of the file for images (n, channels, height, width) float32."""
    return np.asarray(session(path).run(None, {"images": images.astype(np.float32)})[0])


def largest_difference(module: nn.Module, path: Path, images: torch.Tensor) -> float:
    """Largest absolute difference between the file's outputs and PyTorch's for the same images."""
    return float(np.abs(differences(module, path, images)[0]).max())


def differences(module: nn.Module, path: Path, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The file's outputs minus PyTorch's for the same images, and PyTorch's: each of the shape of the outputs."""
    plain = copy.deepcopy(module).to("cpu").eval()
    with torch.no_grad():
        expected = plain(images.float().cpu()).numpy()
    return run(path, images.cpu().numpy()) - expected, expected


def time_onnx(path: Path, input_shape: tuple[int, ...], *, runs: int = 50) -> float:
    """Median milliseconds of one image over `runs` runs, one thread, after a warm-up."""
    ready = session(path)
    images = {"images": np.random.default_rng(0).normal(size=(1, *input_shape)).astype(np.float32)}
    for _ in range(max(runs // 5, 3)):
        ready.run(None, images)
    times = np.empty(runs)
    for i in range(runs):
        start = time.perf_counter()
        ready.run(None, images)
        times[i] = time.perf_counter() - start
    return float(np.median(times) * 1e3)


def command_backend(command: str) -> Backend:
    """A backend that runs a command of the user's: `{file}` stands for the ONNX file, `{shape}` for `3x224x224`.

    The command prints milliseconds as the last word of its output: a script that copies the file to a phone and times it there, say.
    It is run without a shell.

    Raises:
        UsageError: the command does not name `{file}` or leaves a quotation open; when run: it cannot be run, fails, takes more than ten
            minutes, or prints no positive number.
    """
    if "{file}" not in command:
        raise UsageError(f"The command {command!r} does not say where the network goes; expected {{file}} in it.")
    try:
        template = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"Malformed command {command!r}: {error}.") from None

    def run_command(path: Path, input_shape: tuple[int, ...]) -> float:
        words = [word.replace("{file}", str(path)).replace("{shape}", "x".join(map(str, input_shape))) for word in template]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True)
            milliseconds = float(done.stdout.split()[-1])
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip().splitlines() or ["no message"])[-1]
            raise UsageError(f"{words[0]} ended with status {error.returncode}: {said[:160]}. Try it by hand.") from None
        except (OSError, subprocess.TimeoutExpired, IndexError, ValueError) as error:
            raise UsageError(f"{words[0]} gave no latency: {error}. Expected milliseconds as the last word that it prints.") from None
        if not (math.isfinite(milliseconds) and milliseconds > 0):
            raise UsageError(f"{words[0]} printed {milliseconds}; expected a positive number of milliseconds.")
        return milliseconds

    return run_command


def measure(module: nn.Module, input_shape: tuple[int, ...], backend: Backend = time_onnx) -> float:
    """Milliseconds of one image: the module is exported into a temporary file and handed to the backend.

    Raises:
        UsageError: the module takes several tensors.
    """
    if not all(isinstance(size, int) for size in input_shape):
        raise UsageError("A block that takes several tensors cannot be timed by itself; give a latency table, or leave latency out.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "measured.onnx"
        export_to_time(module, input_shape, path)
        return backend(path, input_shape)
