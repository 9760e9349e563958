"""ExecuTorch with XNNPACK: PyTorch's own runtime for phones, `.pte` files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evonas.errors import UsageError, first_line
from evonas.registry import Entry
from predictors.devices.runtimes import RUNTIMES, Runtime, Shape


def executorch() -> Runtime:
    """See `Runtime`.

    Raises:
        UsageError: ExecuTorch is not installed; when a network is written: it cannot take it.
    """
    try:
        import executorch.runtime  # noqa: F401
    except ImportError:
        raise UsageError("A .pte file needs ExecuTorch; expected the extra: pip install 'evonas[mobile]'.") from None
    return Runtime("ExecuTorch", ".pte", _write, _loaded)


def _write(network: nn.Module, input_shape: Shape, path: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    try:
        exported = torch.export.export(network.eval(), (torch.zeros(1, *input_shape),))
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    except Exception as error:
        raise UsageError(f"ExecuTorch cannot take this network: {first_line(error)}.") from None
    path.write_bytes(program.buffer)


def _loaded(path: Path) -> Callable[[torch.Tensor], Any]:
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime as Reader

    _unsafe_reset_threadpool(1)  # one thread, as others have; it takes every core otherwise
    method = Reader.get().load_program(str(path)).load_method("forward")
    return lambda image: method.execute([image])[0]


RUNTIMES.add(Entry("executorch", "ExecuTorch with XNNPACK (extra: mobile)", "", executorch))
