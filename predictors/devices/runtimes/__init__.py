"""What runs networks on this host, by name: each writes a network in a form of its own and times it.

A runtime of your own registers itself with `RUNTIMES.add(...)`, in a module that your package names as an entry point (`evonas.registry`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evonas.errors import UsageError
from evonas.registry import Entry, Registry

Shape = tuple[int, ...]
CLOSE = 1e-3


@dataclass(frozen=True)
class Runtime:
    """A form of a network, and what runs it on this host with one thread. A `predictors.devices.runtime.Backend`.

    Attributes:
        name: of what runs it, for people.
        suffix: of its files.
        writer: (network in evaluation mode on the CPU, shape of one image, file to write).
        load: file to a function of one image, shape (1, channels, height, width), to outputs as an array.
    """

    name: str
    suffix: str
    writer: Callable[[nn.Module, Shape, Path], None]
    load: Callable[[Path], Callable[[torch.Tensor], Any]]

    def write(self, network: nn.Module, input_shape: Shape, path: Path) -> None:
        """Write a network as it is in use, wherever it is and whatever mode it is in; it is left as it is."""
        self.writer(copy.deepcopy(network).to("cpu").to(memory_format=torch.contiguous_format).eval(), input_shape, path)

    def __call__(self, path: Path, input_shape: Shape) -> float:
        """Milliseconds of one image."""
        from predictors.devices.runtime import times_together

        run, image = self.load(path), torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(0))
        return times_together([lambda: run(image)])[0]

    def check(self, network: nn.Module, path: Path, image: torch.Tensor) -> float:
        """The largest difference of the file's outputs to PyTorch's, for one image.

        Raises:
            UsageError: it is too large; the file is removed.
        """
        outputs = torch.as_tensor(self.load(path)(image))
        with torch.no_grad():
            difference = float((outputs - network(image)).abs().max())
        if not difference <= CLOSE:
            path.unlink()
            raise UsageError(f"{self.name} computes something else, by {difference:.2g}; expected at most {CLOSE}.")
        return difference


RUNTIMES: Registry[Entry[Callable[[], Runtime]]] = Registry("runtime", "predictors.devices.runtimes")
"""What can be asked for by name; a runtime whose packages are missing says so when it is made."""
