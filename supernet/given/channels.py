"""Which channels of a network belong together: those that have to be kept or left out at once, found by following one image through it.

Every channel of every tensor carries a label. A convolution or a linear layer makes channels with new labels; what adds, multiplies or
compares two tensors makes their labels one; what moves channels (a concatenation, a flattening) moves their labels with it, by doing the
same to a tensor of labels. Labels that became one are a *class*: a channel of the network with all that hangs on it, the filters that make
it, its batch-norm scale and what later layers read of it. Depthwise filters tie what arrives to what leaves; the groups of a grouped
convolution are kept or left out as wholes. What cannot be followed (a softmax over channels, a channel shuffle, a weight that is computed)
keeps its channels whole.

Fang et al., "DepGraph: Towards Any Structural Pruning", 2023, arXiv 2301.12900, build such classes from the graph of gradients and a rule
for every kind of module. Departure: labels are moved by the operations themselves, below the level of modules, so that a module of
somebody's own needs no rule, and what has no rule is left whole instead of being guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from supernet.evaluation import left_as_it_was

Integers = npt.NDArray[np.int64]
Key = tuple[str, int]  # a parameter or buffer by its name, and one of its dimensions

WHOLE = 0  # the label of what is never left out: the image, the logits, what cannot be followed

NORMS = {
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
}
POOLS = {
    "max_pool2d_with_indices",
    "mkldnn_max_pool2d",
    "avg_pool2d",
    "_adaptive_avg_pool2d",
    "mkldnn_adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "upsample_nearest2d",
    "upsample_bilinear2d",
}
RESHAPES = {"view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze"}
MOVES = {"permute", "transpose", "t", "expand", "clone", "alias", "detach", "contiguous", "_to_copy", "cat", "lift_fresh"}
PARTS = {"slice", "select", "split", "split_with_sizes", "chunk", "unbind"}
REDUCTIONS = {"mean", "sum", "amax", "amin"}
ELEMENTWISE = {
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "gelu",
    "silu",
    "mish",
    "elu",
    "leaky_relu",
    "softplus",
    "relu6",
}  # beside PyTorch's tag


@dataclass(frozen=True)
class Use:
    """A layer with weights as it ran.

    Attributes:
        weight: name of its weight, such as "layer1.0.conv1.weight".
        positions: how often a weight is used for an image: multiply-accumulates are positions times the size of the weight.
        input_shape: what arrives, for one image.
        groups: of a convolution, 1 of a linear layer.
    """

    weight: str
    positions: int
    input_shape: tuple[int, ...]
    groups: int = 1

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.weight.rpartition(".")[0]


@dataclass
class Trace:
    """What following an image through a network found.

    Attributes:
        owners: for a dimension of a parameter or buffer, the class of every position.
        uses: layers with weights in the order in which they ran.
        left: names of operations that could not be followed, with how many classes they kept whole.
        logits: how many the network gives.
    """

    owners: dict[Key, Integers]
    uses: list[Use]
    left: dict[str, int]
    logits: int


def follow(network: nn.Module, image_shape: tuple[int, ...]) -> Trace:
    """Run one image through a network in evaluation mode and follow its channels.

    Args:
        network: images in, logits out; left in its mode.
        image_shape: (channels, height, width).

    Raises:
        Exception: whatever the network raises.
        ValueError: it gives something else than one vector of logits for an image.
    """
    image = torch.rand(1, *image_shape, device=next(network.parameters()).device)
    with torch.no_grad(), left_as_it_was(network):
        follower = _Follower(network)
        with follower:
            logits = network.eval()(image)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"it gives {shape} for one image; expected logits of the shape (1, classes)")
    follower.keep_whole("logits", logits)
    owners = {key: follower.classes(labels) for key, labels in follower.owners.items()}
    return Trace(owners, follower.uses, follower.left, int(logits.shape[1]))


class _Follower(TorchDispatchMode):
    """Labels of all tensors that are made within it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        state = [*network.named_parameters(), *network.named_buffers()]
        self._names = {tensor.untyped_storage().data_ptr(): name for name, tensor in state if tensor.numel()}
        self._parent = np.zeros(1, dtype=np.int64)  # of every label; a root is its own
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # by identity: the tensor, which is held so that no other gets it, and labels
        self.owners: dict[Key, Integers] = {}
        self.uses: list[Use] = []
        self.left: dict[str, int] = {}

    def __torch_dispatch__(self, operation: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `TorchDispatchMode`."""
        kwargs = kwargs or {}
        out = operation(*args, **kwargs)
        name = operation.overloadpacket.__name__
        plain = name.rstrip("_") if name.endswith("_") and not name.endswith("__") else name
        tensors = list(_tensors((args, kwargs)))
        if plain == "convolution":
            self._convolution(args, out)
        elif plain in ("addmm", "mm", "linear"):
            self._linear(plain, args, out)
        elif not any(self._labelled(tensor) for tensor in tensors):
            pass  # made of the image alone, of weights, or of nothing
        elif plain in NORMS:
            self._norm(args, out[0])
        elif plain in POOLS:
            made = out[0] if isinstance(out, tuple) else out
            self._set(made, self._channels(args[0])[None, :, None, None].expand(made.shape))
        elif plain in RESHAPES:
            self._reshape(args[0], out)
        elif plain in PARTS:
            self._part(plain, operation, args, kwargs, out)
        elif plain in REDUCTIONS:
            self._reduction(plain, args, out)
        elif plain == "constant_pad_nd" and len(args[1]) <= 4 and args[0].ndim == 4:
            self._set(out, self._channels(args[0])[None, :, None, None].expand(out.shape))
        elif plain in MOVES:
            self._set(out, operation(*_with_labels(args, self._of), **_with_labels(kwargs, self._of)))
        elif plain in ELEMENTWISE or torch.Tag.pointwise in operation.tags:
            self._pointwise(plain, tensors, out)
        else:
            self.keep_whole(plain, *tensors)
            for made in _tensors(out):
                self._set(made, torch.zeros(made.shape, dtype=torch.int64))
        return out

    def classes(self, labels: Tensor | Integers) -> Integers:
        """The class of every label."""
        found = self._parent[np.asarray(labels)]
        while not np.array_equal(further := self._parent[found], found):
            found = further
        return found

    def keep_whole(self, why: str, *tensors: Tensor) -> None:
        """Nothing of these tensors is ever left out."""
        for tensor in tensors:
            if self._labelled(tensor):
                classes = np.unique(self.classes(self._of(tensor)))
                if len(classes := classes[classes != WHOLE]):
                    self._parent[classes] = WHOLE
                    self.left[why] = self.left.get(why, 0) + len(classes)

    def _labelled(self, tensor: Tensor) -> bool:
        return id(tensor) in self._known and bool((self._known[id(tensor)][1] != WHOLE).any())

    def _of(self, tensor: Tensor) -> Tensor:
        """The labels of a tensor, in its shape."""
        known = self._known.get(id(tensor))
        return known[1] if known is not None else torch.zeros(tensor.shape, dtype=torch.int64)

    def _set(self, tensor: Tensor, labels: Tensor) -> None:
        self._known[id(tensor)] = (tensor, labels)

    def _name(self, tensor: Any) -> str | None:
        return self._names.get(tensor.untyped_storage().data_ptr()) if isinstance(tensor, Tensor) else None

    def _new(self, count: int) -> Integers:
        first = len(self._parent)
        self._parent = np.concatenate([self._parent, np.arange(first, first + count)])
        return np.arange(first, first + count)

    def _tie(self, one: Integers, other: Integers) -> None:
        """Make labels one, position by position; a class that is whole makes the other whole."""
        for a, b in np.unique(np.stack([np.ravel(one), np.ravel(other)], axis=1), axis=0).tolist():
            a, b = (int(root) for root in self.classes(np.array([a, b])))
            if a != b:
                self._parent[max(a, b)] = min(a, b)

    def _own(self, key: Key, labels: Integers) -> Integers:
        """What owns a dimension of a parameter: these labels, and what owned it when it was used before."""
        if key in self.owners:
            self._tie(self.owners[key], labels)
        else:
            self.owners[key] = labels
        return self.owners[key]

    def _channels(self, x: Tensor, dimension: int = 1) -> Tensor:
        """The label of every channel, which is the same everywhere in it or kept whole."""
        labels = self._of(x).movedim(dimension, 0).reshape(x.shape[dimension], -1)
        classes = self.classes(labels)
        if (classes != classes[:, :1]).any():
            self.keep_whole("positions of a channel that differ", x)
            return torch.zeros(x.shape[dimension], dtype=torch.int64)
        return labels[:, 0]

    def _convolution(self, args: Sequence[Any], out: Tensor) -> None:
        x, weight, bias, *_, transposed, _, groups = args
        name = self._name(weight)
        if name is None or transposed or x.ndim != 4:
            self.keep_whole("a convolution whose weight is computed" if name is None else "a transposed convolution", x)
            self._set(out, torch.zeros(out.shape, dtype=torch.int64))
            return
        arriving, count = self._channels(x).numpy(), weight.shape[0]
        made = self._own((name, 0), self.owners[name, 0] if (name, 0) in self.owners else self._new(count))
        if groups == 1:
            self._own((name, 1), arriving)
        else:  # a depthwise filter has a group for every channel: this is the same
            for labels, others in zip(arriving.reshape(groups, -1), made.reshape(groups, -1), strict=True):
                together = np.concatenate([labels, others])
                self._tie(together, np.full_like(together, together[0]))
        self._bias(bias, made)
        self.uses.append(Use(name, int(np.prod(out.shape[2:])), tuple(x.shape[1:]), groups))
        self._set(out, torch.from_numpy(made)[None, :, None, None].expand(out.shape))

    def _linear(self, kind: str, args: Sequence[Any], out: Tensor) -> None:
        bias, x, weight = (args[0], args[1], args[2]) if kind == "addmm" else (args[2] if len(args) > 2 else None, args[0], args[1])
        name = self._name(weight)
        if name is None or (bias is not None and self._name(bias) is None):
            self.keep_whole("a product of tensors", *(tensor for tensor in args if isinstance(tensor, Tensor)))
            self._set(out, torch.zeros(out.shape, dtype=torch.int64))
            return
        made = self._own((name, 0), self.owners[name, 0] if (name, 0) in self.owners else self._new(out.shape[-1]))
        self._own((name, 1), self._channels(x, x.ndim - 1).numpy())
        self._bias(bias, made)
        self.uses.append(Use(name, out.numel() // out.shape[-1], tuple(x.shape[1:])))
        self._set(out, torch.from_numpy(made).expand(out.shape))

    def _bias(self, bias: Tensor | None, made: Integers) -> None:
        if (name := self._name(bias)) is not None:
            self._own((name, 0), made)

    def _norm(self, args: Sequence[Any], out: Tensor) -> None:
        channels = self._channels(args[0])
        for value in args[1:5]:
            if (name := self._name(value)) is not None:
                self._own((name, 0), channels.numpy())
        self._set(out, channels[(None, slice(None), *[None] * (out.ndim - 2))].expand(out.shape))

    def _reshape(self, x: Tensor, out: Tensor) -> None:
        before, after = tuple(x.shape), tuple(out.shape)
        kept = before[:2] == after[:2] or before[-1:] == after[-1:] or after == (before[0], int(np.prod(before[1:])))
        if not kept and [size for size in before if size > 1] != [size for size in after if size > 1]:
            self.keep_whole("channels that are divided anew", x)
        self._set(out, self._of(x).reshape(after))

    def _part(self, kind: str, operation: OpOverload, args: Sequence[Any], kwargs: Any, out: Any) -> None:
        x = args[0]
        dimension = kwargs.get("dim", args[1] if kind in ("slice", "select") and len(args) > 1 else args[2] if len(args) > 2 else 0)
        dimension = (args[1] if kind == "unbind" and len(args) > 1 else dimension) % x.ndim
        classes = self.classes(self._of(x))
        parts = list(_tensors(out))
        if (classes != classes.take([0], axis=dimension)).any() and any(part.shape != x.shape for part in parts):
            self.keep_whole("a part of the channels", x)
        for part, labels in zip(parts, _tensors(operation(self._of(x), *args[1:], **kwargs)), strict=True):
            self._set(part, labels)

    def _reduction(self, name: str, args: Sequence[Any], out: Tensor) -> None:
        x, dimensions = args[0], args[1] if len(args) > 1 and args[1] else range(args[0].ndim)
        along = [d % x.ndim for d in ([dimensions] if isinstance(dimensions, int) else dimensions)]
        labels = self._of(x)
        first = labels
        for d in along:
            first = first.narrow(d, 0, 1)
        if (self.classes(labels) != self.classes(first)).any():
            self.keep_whole(f"a {name} over channels", x)
        self._set(out, first.reshape(out.shape))

    def _pointwise(self, name: str, tensors: Sequence[Tensor], out: Any) -> None:
        labelled = [tensor for tensor in tensors if self._labelled(tensor)]
        if any(tensor.numel() > 1 and not self._labelled(tensor) for tensor in tensors):
            self.keep_whole(f"{name} with numbers that belong to no channel", *labelled)
        made = next(iter(_tensors(out)))
        first, *others = [self._of(tensor).expand(made.shape) for tensor in labelled]
        for other in others:
            self._tie(first.numpy(), other.numpy())
        self._set(made, first)


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _with_labels(value: Any, of: Any) -> Any:
    """The same arguments with labels in place of tensors; types and layouts of numbers do not concern labels."""
    if isinstance(value, Tensor):
        return of(value)
    if isinstance(value, list | tuple):
        return type(value)(_with_labels(part, of) for part in value)
    if isinstance(value, dict):
        return {name: _with_labels(part, of) for name, part in value.items() if name not in ("dtype", "memory_format", "device")}
    return value
