"""A network as its operations: what `model.pt` holds where nobody could make the modules again from plain data.

`torch.export` (Ansel et al., "PyTorch 2", 2024, ASPLOS) writes down the operations of one forward pass in evaluation mode, with the weights
beside them. Reading them needs no source of the network and runs none.
"""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evonas.errors import UsageError, first_line


class Program(nn.Module):
    """A network that was read from its operations: images in, logits out. It is as in evaluation mode and cannot be trained further."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (n, classes)."""
        logits: Tensor = self.module(images)
        return logits

    def train(self, mode: bool = True) -> Program:
        """There is one mode."""
        self.training = False
        return self


def program_of(network: nn.Module, image_shape: tuple[int, int, int]) -> Tensor:
    """The operations of a network in evaluation mode, for any number of images, as bytes: shape (n,), uint8."""
    images = (torch.zeros(2, *image_shape),)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exported = torch.export.export(network.eval(), images, dynamic_shapes=({0: torch.export.Dim("images")},))
        file = io.BytesIO()
        torch.export.save(exported, file)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def read_program(path: Path, program: Any) -> Program:
    """The network of some operations.

    Args:
        path: of the file they are from, for people.
        program: what `program_of` gave.

    Raises:
        UsageError: they are damaged.
    """
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Program(torch.export.load(io.BytesIO(program.numpy().tobytes())).module())
    except Exception as error:
        raise UsageError(f"Cannot read the network in {path}: {first_line(error)}. Expected the model.pt of a finished run.") from None
