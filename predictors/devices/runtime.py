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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evonas.app import session as session
from evonas.errors import UsageError
from evonas.files import written_whole

COMMAND_TIMEOUT_S = 600.0
ROUNDS, WARM_UP, TOGETHER = 5, 3, 64

Backend = Callable[[Path, tuple[int, ...]], float]
"""(file, shape of one image) -> milliseconds of one image. Files are ONNX, or what the backend writes (`predictors.devices.runtimes`)."""


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
    """Milliseconds of one image, one thread: see `times_onnx`."""
    return times_onnx([path], [input_shape], runs=runs)[0]


def times_onnx(
    paths: Sequence[Path], input_shapes: Sequence[tuple[int, ...]], *, runs: int = 50, on_progress: Callable[[float], None] | None = None
) -> list[float]:
    """Milliseconds of one image for each file, one thread: the lowest of five medians.

    In each of five rounds every file has its turn, in another order. What else a machine does comes and goes: it slows a round down,
    seldom all of them, and never only the files that were measured last.

    Args:
        paths, input_shapes: ONNX files, and shapes of one image.
        runs: of each file, shared by the rounds; each round begins with a few that do not count.
        on_progress: called with the share of turns done.
    """
    rng = np.random.default_rng(0)
    ready = [
        (session(path), {"images": rng.normal(size=(1, *shape)).astype(np.float32)})
        for path, shape in zip(paths, input_shapes, strict=True)
    ]
    return times_together([partial(one.run, None, images) for one, images in ready], runs=runs, on_progress=on_progress)


def times_together(ways: Sequence[Callable[[], Any]], *, runs: int = 50, on_progress: Callable[[float], None] | None = None) -> list[float]:
    """Milliseconds of each of several calls, measured as `times_onnx` does."""
    rng = np.random.default_rng(0)
    each = max(runs // ROUNDS, 1)
    medians = np.empty((ROUNDS, len(ways)))
    for turn, (number, i) in enumerate((number, i) for number in range(ROUNDS) for i in rng.permutation(len(ways)).tolist()):
        times = np.empty(WARM_UP + each)
        for k in range(len(times)):
            start = time.perf_counter()
            ways[i]()
            times[k] = time.perf_counter() - start
        medians[number, i] = np.median(times[WARM_UP:])
        if on_progress is not None:
            on_progress((turn + 1) / medians.size)
    return [float(lowest * 1e3) for lowest in medians.min(axis=0)]


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
    """Milliseconds of one image: see `measure_all`."""
    return measure_all([(module, input_shape)], backend)[0]


def measure_all(
    modules: Sequence[tuple[nn.Module, tuple[int, ...]]],
    backend: Backend = time_onnx,
    on_progress: Callable[[float], None] | None = None,
) -> list[float]:
    """Milliseconds of one image for each module with the shape of its input: exported into temporary files and handed to the backend.

    On this host all are measured together (`times_onnx`); another backend gets one after the other, in its own form where it writes one.

    Raises:
        UsageError: a module takes several tensors.
    """
    told, found = on_progress or (lambda share: None), list[float]()
    for _, shape in modules:
        require_one_tensor(shape)
    for begin in range(0, len(modules), TOGETHER):  # so many sessions at once and no more: each holds its network
        some = modules[begin : begin + TOGETHER]
        found += _measured_together(some, backend, partial(_part_of, told, begin, len(some), len(modules)))
    return found


def _part_of(told: Callable[[float], None], begin: int, size: int, total: int, share: float) -> None:
    told((begin + share * size) / total)


def require_one_tensor(input_shape: tuple[int, ...]) -> None:
    """Refuse what cannot be run by itself.

    Raises:
        UsageError: the shape is that of several tensors.
    """
    if not all(isinstance(size, int) for size in input_shape):
        raise UsageError("A block that takes several tensors cannot be timed by itself; give a latency table, or leave latency out.")


def _measured_together(
    modules: Sequence[tuple[nn.Module, tuple[int, ...]]], backend: Backend, told: Callable[[float], None]
) -> list[float]:
    write: Callable[[nn.Module, tuple[int, ...], Path], None] = getattr(backend, "write", export_to_time)
    with tempfile.TemporaryDirectory() as folder:
        paths, found = [Path(folder) / f"{i}{getattr(backend, 'suffix', '.onnx')}" for i in range(len(modules))], []
        for i, (path, (module, shape)) in enumerate(zip(paths, modules, strict=True)):
            write(module, shape, path)
            if backend is not time_onnx:
                found.append(backend(path, shape))
                path.unlink()
            told((i + 1) / len(modules) * (0.5 if backend is time_onnx else 1.0))
        if backend is not time_onnx:
            return found
        return times_onnx(paths, [shape for _, shape in modules], on_progress=lambda share: told(0.5 + 0.5 * share))
