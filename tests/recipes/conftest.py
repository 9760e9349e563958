"""What recipes' tests share: files that only have to be right are written the quick way."""

import copy
import warnings

import pytest
import torch


def quick_export(module, input_shape, path, *, dynamic_batch=False):
    """What `predictors.devices.runtime.export` writes, by torch's older exporter, in a tenth of the time."""
    plain = copy.deepcopy(module).to("cpu").to(memory_format=torch.contiguous_format).eval()
    names = {"input_names": ["images"], "output_names": ["outputs"]}
    free = {"dynamic_axes": {"images": {0: "n"}, "outputs": {0: "n"}}} if dynamic_batch else {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(plain, (torch.zeros(2 if dynamic_batch else 1, *input_shape),), str(path), dynamo=False, **names, **free)


@pytest.fixture(scope="module", autouse=True)
def quick_files(request):
    """Runs in this process; test_command.py and test_delivery.py look at the files that users get, and so do all that start a process."""
    if request.module.__name__ in ("test_command", "test_delivery"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("predictors.devices.runtime.export", quick_export)
        yield
