"""ONNX Runtime: the form that is delivered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evonas.registry import Entry
from predictors.devices.runtime import export_to_time, session
from predictors.devices.runtimes import RUNTIMES, Runtime


def onnx_runtime() -> Runtime:
    """Needs nothing that evonas does not."""
    return Runtime("ONNX Runtime", ".onnx", export_to_time, _loaded)


def _loaded(path: Path) -> Callable[[torch.Tensor], Any]:
    ready = session(path)
    return lambda image: ready.run(None, {"images": image.numpy()})[0]


RUNTIMES.add(Entry("onnxruntime", "ONNX Runtime, one thread", "", onnx_runtime))
