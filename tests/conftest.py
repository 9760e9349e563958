"""Shared by all tests: two threads, a trained supernet of the digits, and the skips of what is not at hand."""

import os

import numpy as np
import pytest
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: "recipes" not in item.path.parts)  # the longest files first: two workers end together
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(scope="session")
def digits():
    from supernet import load

    return load("digits")


@pytest.fixture(scope="session")
def trained(digits):
    """A small mbconv supernet after a few epochs, so that statistics and accuracies mean something."""
    from supernet import UniformPaths, mbconv, train

    supernet = mbconv(digits.image_shape, 10, depths=(1, 2, 2), squeeze_excite=True)
    train(supernet, UniformPaths(), digits.train, epochs=4, batch_size=64)
    return supernet


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tables():
    """The folder of real tables, where the user has it."""
    if "EVONAS_DATA" not in os.environ:
        pytest.skip("EVONAS_DATA is not set: the real tables are not at hand")
    from pathlib import Path

    return Path(os.environ["EVONAS_DATA"])


@pytest.fixture(scope="module")
def no_latency():
    """Nothing is measured on this host: every network takes half a millisecond."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("predictors.devices.runtime.measure", lambda *_: 0.5)
        patch.setattr("predictors.devices.runtime.measure_all", lambda modules, *_, **__: [0.5] * len(modules))
        yield
