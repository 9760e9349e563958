"""Where a given network comes from: torchvision, timm, a function in a file, or a module in hand; and its weights.

A file is its owner's code and is run as such. Weights are read as data: nothing in them is run.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evonas.errors import UsageError, first_line, unknown
from supernet.given.channels import follow

PRETRAINED = "pretrained"
WITH_MORE_OUTPUTS = ("googlenet", "inception_v3")  # in training, unless told otherwise
HOLDERS = ("state_dict", "model_state_dict", "model", "weights", "network")  # of weights in a checkpoint
SPREAD_OVER_DEVICES = "module."  # what nn.DataParallel puts before every name
FORMS = "torchvision:NAME, timm:NAME, or FILE.py:FUNCTION"


@dataclass(frozen=True)
class Given:
    """A network that is to be made to fit.

    Attributes:
        network: in evaluation mode, on the CPU.
        name: what it is called.
        trained: whether it has trained weights, and for these classes.
        said: what there is to say about it.
    """

    network: nn.Module
    name: str
    trained: bool
    said: tuple[str, ...]


def read(model: str | nn.Module, weights: str | None, image_shape: tuple[int, int, int], classes: int, *, seed: int = 0) -> Given:
    """The network, with a classifier for these classes.

    Args:
        model: `torchvision:NAME`, `timm:NAME`, `FILE.py:FUNCTION` (a function that returns a module), or a module, which is copied.
        weights: a file with its state dict, or `pretrained` for those that torchvision or timm download; None leaves what it has.
        image_shape: (channels, height, width) of the images.
        classes: how many.
        seed: of a new classifier's weights.

    Raises:
        UsageError: no such network, weights of another one, or it does not take such images.
    """
    said: list[str] = []
    name = model if isinstance(model, str) else type(model).__name__
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # what is made with new weights has the same ones when a run goes on
        network = (_made(model, weights == PRETRAINED) if isinstance(model, str) else copy.deepcopy(model)).cpu().eval()
    if not isinstance(model, str) and weights == PRETRAINED:
        raise UsageError("Got --weights pretrained with a module in hand; expected a file, or no weights: it has its own.")
    _require_channels(network, name, image_shape)
    if weights is not None and weights != PRETRAINED:
        _load(network, name, Path(weights), image_shape)
    last, logits = classifier(network, name, image_shape)
    if new := logits != classes:
        said.append(f"its classifier {last} has {logits} classes, the images have {classes}: it is replaced by a new one")
        replace(network, last, classes, seed)
    trained = (weights is not None or not isinstance(model, str) or (":" in model and model.partition(":")[0].endswith(".py"))) and not new
    return Given(network, name, trained, tuple(said))


def _made(model: str, pretrained: bool) -> nn.Module:
    where, _, what = model.partition(":")
    if not what:
        raise UsageError(f"Got the model {model!r}; expected {FORMS}.")
    if where == "torchvision":
        return _of_torchvision(what, pretrained)
    if where == "timm":
        return _of_timm(what, pretrained)
    if where.endswith(".py"):
        if pretrained:
            raise UsageError(
                f"Got --weights pretrained for {model}; expected torchvision:NAME or timm:NAME, whose weights can be downloaded."
            )
        return _of_file(Path(where), what)
    raise UsageError(f"Got the model {model!r}; expected {FORMS}.")


def _of_torchvision(name: str, pretrained: bool) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)  # those that classify images
    if name not in known:
        raise unknown("network of torchvision", name, known)
    plain = {"aux_logits": False, "init_weights": False} if name in WITH_MORE_OUTPUTS and not pretrained else {}
    return _downloaded(name, pretrained, lambda: models.get_model(name, weights="DEFAULT" if pretrained else None, **plain))


def _of_timm(name: str, pretrained: bool) -> nn.Module:
    try:
        import timm  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise UsageError("Networks of timm need it; expected the extra: pip install 'evonas[timm]'.") from None
    if not timm.is_model(name):
        raise unknown("network of timm", name, timm.list_models())
    return _downloaded(name, pretrained, lambda: timm.create_model(name, pretrained=pretrained))


def _downloaded(name: str, pretrained: bool, make: Callable[[], Any]) -> nn.Module:
    try:
        network: nn.Module = make()
    except Exception as error:
        if not pretrained:
            raise UsageError(f"Cannot make the network {name}: {first_line(error)}.") from error
        raise UsageError(
            f"Cannot get the pretrained weights of {name}: {first_line(error)}. Expected a network connection, or --weights FILE."
        ) from error
    return network


def _of_file(file: Path, function: str) -> nn.Module:
    if not file.exists():
        raise UsageError(f"There is no file {file}; expected FILE.py:FUNCTION.")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{file} cannot be run: {type(error).__name__}: {first_line(error)}.") from error
    make = getattr(module, function, None)
    if not callable(make):
        made_here = [n for n, value in vars(module).items() if callable(value) and getattr(value, "__module__", None) == file.stem]
        raise UsageError(f"{file} has no function {function!r}; it has {', '.join(made_here) or 'none'}.")
    try:
        network = make()
    except Exception as error:
        raise UsageError(f"{function} in {file} failed: {type(error).__name__}: {first_line(error)}.") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{function} in {file} gives {type(network).__name__}; expected a torch.nn.Module.")
    return network


def _require_channels(network: nn.Module, name: str, image_shape: tuple[int, int, int]) -> None:
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is not None and first.in_channels != image_shape[0]:
        kinds = {1: "grey", 3: "colour"}
        raise UsageError(
            f"{name} takes images of {first.in_channels} channels, and these have {image_shape[0]} "
            f"({kinds.get(image_shape[0], 'neither grey nor colour')}); expected images of the kind that it was made for."
        )


def classifier(network: nn.Module, name: str, image_shape: tuple[int, int, int]) -> tuple[str, int]:
    """The name of the layer that makes the logits, and how many there are.

    Raises:
        UsageError: the network does not run on such images, or no layer with weights makes its logits.
    """
    try:
        trace = follow(network, image_shape)
    except Exception as error:
        raise UsageError(
            f"{name} does not run on images of the shape {image_shape}: {first_line(error)}. "
            f"Expected larger images (--image-size), or another network."
        ) from error
    last = trace.uses[-1].layer if trace.uses else ""
    layer = network.get_submodule(last) if last else None
    makes = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels if isinstance(layer, nn.Conv2d) else -1
    if makes != trace.logits:
        raise UsageError(f"No linear or convolutional layer of {name} makes its {trace.logits} outputs; expected a classifier.")
    return last, trace.logits


def replace(network: nn.Module, name: str, classes: int, seed: int) -> None:
    """Another classifier in place of one, with new weights."""
    parent, _, local = name.rpartition(".")
    before = network.get_submodule(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(before, nn.Linear):
            new: nn.Module = nn.Linear(before.in_features, classes, before.bias is not None)
        else:
            assert isinstance(before, nn.Conv2d)
            size: Any = before.kernel_size
            new = nn.Conv2d(before.in_channels, classes, size, bias=before.bias is not None)
    setattr(network.get_submodule(parent), local, new)


def _load(network: nn.Module, name: str, file: Path, image_shape: tuple[int, int, int]) -> None:
    state = state_dict_of(file)
    last, logits = classifier(network, name, image_shape)
    known = state.get(f"{last}.weight")
    if known is not None and len(known) != logits:  # trained for other classes than the source says
        replace(network, last, len(known), 0)
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    strange = [key for key in state if key not in own]
    other = [key for key in state if key in own and state[key].shape != own[key].shape]
    if missing or strange or other:
        first = next(iter(other or missing or strange))
        raise UsageError(
            f"{file} holds the weights of another network than {name}: {len(missing)} are missing, {len(strange)} unknown, {len(other)} of "
            f"another shape (such as {first}). Expected its state dict."
        )
    network.load_state_dict(state, strict=False)


def state_dict_of(file: Path) -> dict[str, Tensor]:
    """The weights in a file, by name.

    Raises:
        UsageError: the file is missing, damaged, or holds something else.
    """
    if not file.exists():
        raise UsageError(f"There is no file {file}; expected --weights FILE with a state dict, or pretrained.")
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(
            f"Cannot read {file}: {first_line(error)}. Expected a state dict: torch.save(network.state_dict(), {str(file)!r})."
        ) from error
    while isinstance(content, Mapping) and not _is_state_dict(content):
        holder = next((key for key in HOLDERS if isinstance(content.get(key), Mapping)), None)
        if holder is None:
            raise UsageError(f"{file} holds {', '.join(map(str, list(content)[:5])) or 'nothing'}; expected a state dict.")
        content = content[holder]
    if not isinstance(content, Mapping):
        raise UsageError(f"{file} holds {type(content).__name__}; expected a state dict.")
    return {str(key).removeprefix(SPREAD_OVER_DEVICES): value for key, value in content.items()}


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(value, Tensor) for value in content.values())
