"""Multiply-accumulates of a module, counted while it runs: whatever multiplies and adds counts, as a layer or as a function.

What PyTorch's flop counter has a formula for is counted by it: convolutions, transposed ones, matrix products, attention
(`torch.utils.flop_counter`, where a multiply-accumulate is two operations). What moves, adds, scales, pools or normalises counts nothing,
as in the mobile literature. Everything else is refused, because a budget that is kept by counting nothing is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from evonas.errors import UsageError

MOVES = {  # beside views, and what PyTorch itself calls pointwise or a reduction
    *("_unsafe_view", "_to_copy", "_reshape_copy", "arange", "bernoulli", "bernoulli_", "bucketize", "cat", "col2im", "constant_pad_nd"),
    *(
        "as_strided_",
        "contiguous",
        "copy",
        "copy_",
        "detach",
        "embedding",
        "empty",
        "empty_like",
        "empty_strided",
        "eye",
        "fill",
        "fill_",
        "flip",
        "full",
    ),
    *("full_like", "gather", "im2col", "index", "index_put", "index_put_", "index_select", "lift_fresh", "linspace", "masked_fill"),
    *("masked_scatter", "masked_select", "native_channel_shuffle", "new_empty", "new_full", "new_ones", "new_zeros", "nonzero", "normal_"),
    *("ones", "ones_like", "pixel_shuffle", "pixel_unshuffle", "rand", "rand_like", "randint", "randn", "randn_like", "randperm"),
    *("reflection_pad1d", "reflection_pad2d", "repeat", "replication_pad1d", "replication_pad2d", "roll", "scalar_tensor", "scatter"),
    *("scatter_add", "select_scatter", "slice_scatter", "sort", "stack", "topk", "tril", "triu", "unfold", "uniform_", "unique_dim"),
    *("zero_", "zeros", "zeros_like", "_local_scalar_dense", "_prelu_kernel", "rrelu_with_noise", "hardswish", "hardswish_", "glu"),
    *("log_sigmoid_forward", "channel_shuffle", "scatter_"),
}
ACTIVATIONS = (  # not every version of PyTorch calls all of them, and those in place, pointwise: 2.11 does not say it of hardtanh
    *("relu", "relu6", "hardtanh", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardsigmoid", "hardswish", "threshold"),
    *("softplus", "softshrink", "hardshrink", "sigmoid", "tanh", "log_sigmoid", "clamp", "clamp_min", "clamp_max"),
)
CHEAP = (  # pooling, scaling, normalising, adding up
    *("adaptive_", "_adaptive_", "avg_pool", "max_pool", "fractional_max_pool", "upsample_", "_upsample_", "grid_sampler"),
    *("native_batch_norm", "_native_batch_norm", "_batch_norm", "batch_norm", "cudnn_batch_norm", "native_layer_norm", "native_group_norm"),
    *("_softmax", "_safe_softmax", "_log_softmax", "softmax", "native_dropout", "_fused_dropout", "cumsum", "cumprod"),
    *("linalg_vector_norm", "norm"),
    *("var", "std", "sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "logsumexp", "_fused_rms_norm"),
)


class MacCounter(TorchDispatchMode):
    """Within it, `total` adds up the multiply-accumulates of what is run.

    Raises:
        UsageError: where it is run: an operation that nobody can say the multiply-accumulates of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self._formulas: dict[Any, Callable[..., int]] = {**FlopCounterMode(display=False).flop_registry, **_OURS}

    def __torch_dispatch__(self, operation: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `TorchDispatchMode`."""
        kwargs = kwargs or {}
        formula = self._formulas.get(operation.overloadpacket)
        if formula is None and not _counts_nothing(operation):
            with self:
                found = operation.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
            raise UsageError(
                f"Nobody says how many multiply-accumulates {operation.overloadpacket} takes; expected operations that can be counted. "
                f"Give its formula with torch.utils.flop_counter.register_flop_formula."
            )
        out = operation(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out) // 2
        return out


def _counts_nothing(operation: OpOverload) -> bool:
    name = operation.overloadpacket.__name__
    if operation.namespace not in ("aten", "prim", "prims"):
        return False
    told = torch.Tag.pointwise in operation.tags or torch.Tag.reduction in operation.tags or operation.is_view
    return told or name in MOVES or name.removesuffix("_") in ACTIVATIONS or name.startswith(CHEAP)


def _matrix_vector(matrix: Tensor, vector: Tensor, *more: Any, out_val: Any = None, **kwargs: Any) -> int:
    return 2 * matrix.numel()


def _added_matrix_vector(added: Tensor, matrix: Tensor, vector: Tensor, *more: Any, out_val: Any = None, **kwargs: Any) -> int:
    return 2 * matrix.numel()


def _linear(x: Tensor, weight: Tensor, *more: Any, out_val: Tensor, **kwargs: Any) -> int:
    return 2 * out_val.numel() * weight.shape[-1]


def _attention(query: Tensor, key: Tensor, value: Tensor, *more: Any, out_val: Any = None, **kwargs: Any) -> int:
    """Queries by keys, and weights by values: shapes (batch, heads, length, channels)."""
    pairs = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    return 2 * pairs * (query.shape[3] + value.shape[3])


_aten = torch.ops.aten
_OURS: dict[Any, Callable[..., int]] = {  # what PyTorch's counter passes over in silence
    _aten.mv: _matrix_vector,
    _aten.dot: _matrix_vector,
    _aten.vdot: _matrix_vector,
    _aten.addmv: _added_matrix_vector,
    _aten.linear: _linear,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
}
