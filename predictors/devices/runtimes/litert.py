"""LiteRT, formerly TensorFlow Lite: `.tflite` files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evonas.errors import UsageError, first_line
from evonas.registry import Entry
from predictors.devices.runtimes import RUNTIMES, Runtime, Shape

MISSING = "A .tflite file needs LiteRT; expected its package beside torch: pip install litert-torch."


def litert() -> Runtime:
    """See `Runtime`.

    Raises:
        UsageError: LiteRT is not installed; when a network is written: nor is what converts it, or it cannot take the network.
    """
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError:
        raise UsageError(MISSING) from None
    return Runtime("LiteRT", ".tflite", _write, _loaded)


def _write(network: nn.Module, input_shape: Shape, path: Path) -> None:
    try:
        import litert_torch
    except ImportError:
        raise UsageError(MISSING) from None
    try:
        converted = litert_torch.convert(network.eval(), (torch.zeros(1, *input_shape),))
    except Exception as error:
        raise UsageError(f"LiteRT cannot take this network: {first_line(error)}.") from None
    converted.export(str(path))


def _loaded(path: Path) -> Callable[[torch.Tensor], Any]:
    from ai_edge_litert.interpreter import Interpreter

    reader = Interpreter(model_path=str(path), num_threads=1)
    reader.allocate_tensors()
    into, out = reader.get_input_details()[0]["index"], reader.get_output_details()[0]["index"]

    def run(image: torch.Tensor) -> Any:
        reader.set_tensor(into, image.numpy())
        reader.invoke()
        return reader.get_tensor(out)

    return run


RUNTIMES.add(Entry("litert", "LiteRT, formerly TensorFlow Lite (package litert-torch)", "", litert))
