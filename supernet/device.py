"""Where to compute, and how precisely."""

from __future__ import annotations

import os

import torch
from torch import nn

from evonas.errors import UsageError, first_line


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU where there is one; under `torchrun`, the one of this process.

    Raises:
        UsageError: no such device.
    """
    own = f":{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else ""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name + own if name == "cuda" else name)
        torch.zeros(1, device=device)
    except Exception as error:
        raise UsageError(f"Cannot use the device {name!r}: {first_line(error)}. Expected auto, cpu or cuda.") from None
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)  # a device without an index is refused
    return device


def autocast(device: torch.device) -> torch.autocast:
    """bf16 on CUDA, full precision elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def place(network: nn.Module, device: torch.device) -> None:
    """Move a network to a device, in channels-last layout."""
    network.to(device)
    network.to(memory_format=torch.channels_last)
