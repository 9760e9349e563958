"""What recipes' tests share: files that only have to be right are written the quick way."""

import pytest
from command import quick_export


@pytest.fixture(scope="module", autouse=True)
def quick_files(request):
    """Runs in this process; test_command.py and test_delivery.py look at the files that users get, and so do all that start a process."""
    if request.module.__name__ in ("test_command", "test_delivery"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("predictors.devices.runtime.export", quick_export)
        yield
