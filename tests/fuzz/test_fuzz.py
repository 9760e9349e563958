"""A few hundred of the cases in every test run; `make fuzz` does ten thousand."""

import pytest

from tests.fuzz.cases import CASES, make_kit
from tests.fuzz.run import do
from tests.recipes.command import quick_export

EACH = 25


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """Whose latencies nobody measures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("predictors.devices.runtime.measure", lambda network, *_: 0.1 + 1e-6 * sum(p.numel() for p in network.parameters()))
        patch.setattr("predictors.devices.runtime.export", quick_export)
        return make_kit(tmp_path_factory.mktemp("kit"), ("mobile", "flash"))


@pytest.mark.parametrize("kind", CASES)
def test_malformed_input_is_one_line(kit, kind):
    found = [violation for number in range(EACH) if (violation := do(number, kit, seed=1, only=kind)[2]) is not None]
    assert not found


def test_the_judge_sees_what_is_wrong(kit, monkeypatch):
    """A case that raises, one that says nothing, one that writes outside of its folder."""

    def silent(rng, folder, kit):
        from evonas import UsageError

        raise UsageError("")

    def outside(rng, folder, kit):
        (folder.parent / "stolen").write_text("")

    for name, broken in (("raises", lambda rng, folder, kit: {}["x"]), ("silent", silent), ("outside", outside)):
        monkeypatch.setitem(CASES, name, broken)
        assert do(0, kit, only=name)[2] is not None, name
