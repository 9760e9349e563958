"""Whatever runs networks on this host: what it writes computes what PyTorch does, and is timed."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from evonas import UsageError
from predictors.devices.runtime import measure_all
from predictors.devices.runtimes import RUNTIMES, Runtime
from supernet import mbconv


@pytest.fixture(params=list(RUNTIMES))
def runtime(request):
    try:
        return RUNTIMES.pick(request.param).make()
    except UsageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16)])
def test_what_is_written_computes_what_pytorch_does(runtime, shape, tmp_path):
    supernet = mbconv(shape, 10)
    network = supernet.subnet(tuple(supernet.space.sample(1, np.random.default_rng(0))[0].tolist())).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    path = tmp_path / f"network{runtime.suffix}"
    runtime.write(network, shape, path)
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    assert runtime.check(network, path, image) < 1e-4
    assert 0 < runtime(path, shape) < 1000
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    with pytest.raises(UsageError, match="computes something else"):
        runtime.check(network, path, image)
    assert not path.exists()


def test_networks_are_measured_in_the_form_of_their_runtime():
    """And backends that write nothing get ONNX files."""
    seen = []

    def write(module, shape, path):
        path.write_text(f"{sum(parameter.numel() for parameter in module.parameters())}")

    class Counting(Runtime):
        def __call__(self, path, input_shape):
            seen.append(path.suffix)
            return float(path.read_text())

    modules = [(nn.Linear(4, 2), (4,)), (nn.Linear(4, 3), (4,))]
    assert measure_all(modules, Counting("a counter", ".count", write, lambda path: None)) == [10.0, 15.0]
    assert measure_all(modules, lambda path, shape: float(path.suffix == ".onnx")) == [1.0, 1.0]
    assert seen == [".count"] * 2


def test_a_runtime_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(UsageError, match="pip install litert-torch"):
        RUNTIMES.pick("litert").make()
    with pytest.raises(UsageError, match="onnxruntime"):
        RUNTIMES.pick("onnxruntim")
