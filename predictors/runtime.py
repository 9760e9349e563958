"""A module as an ONNX file, run: the delivery format, the check of it, and measured latency.

ONNX Runtime with one thread on this host is the stand-in for a phone. A `Backend` of your own (a phone on a cable, a board in
the rack) takes its place wherever one is asked for.
"""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from evonas.errors import UsageError
from evonas.files import written_whole

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
    plain = copy.deepcopy(module).to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    images = torch.zeros(2 if dynamic_batch else 1, *input_shape)
    shapes = ({0: torch.export.Dim("images")},) if dynamic_batch else None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), written_whole(path) as temporary:
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


def session(path: Path, threads: int = 1):  # type: ignore[no-untyped-def]
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UsageError(f"Cannot run {path}: {str(error).splitlines()[0][:160]}. Expected a whole ONNX file; write it again.") from None


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """Outputs of the file for images (n, channels, height, width) float32."""
    return np.asarray(session(path).run(None, {"images": images.astype(np.float32)})[0])


def largest_difference(module: nn.Module, path: Path, images: torch.Tensor) -> float:
    """Largest absolute difference between the file's outputs and PyTorch's for the same images."""
    plain = copy.deepcopy(module).to("cpu").eval()
    with torch.no_grad():
        expected = plain(images.float().cpu()).numpy()
    return float(np.abs(run(path, images.cpu().numpy()) - expected).max())


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


def measure(module: nn.Module, input_shape: tuple[int, ...], folder: Path, backend: Backend = time_onnx) -> float:
    """Milliseconds of one image: the module is exported into `folder` and handed to the backend."""
    path = folder / "measured.onnx"
    try:
        export(module, input_shape, path)
        return backend(path, input_shape)
    finally:
        path.unlink(missing_ok=True)
