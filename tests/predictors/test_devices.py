"""Device files: what is written is read, what is wrong is named; and what known devices say of networks they never ran."""

import numpy as np
import pytest

from evonas import Choice, SearchSpace, UsageError
from predictors.devices.known import KnownDevices, MeasuredDevice, read_device, read_devices, write_device
from predictors.devices.learned import learned

SPACE = SearchSpace(tuple(Choice(f"block{i}", ("conv3", "conv5", "skip")) for i in range(6)))


def device(name, n, seed=0, slope=1.0):
    """Milliseconds that add up over the blocks, with 1 % of noise."""
    rng = np.random.default_rng(seed)
    population = SPACE.sample(n, rng)
    return MeasuredDevice(name, population, exact(population, slope) * np.exp(0.01 * rng.normal(size=n)))


def exact(population, slope=1.0):
    return (0.5 + (np.arange(1, 7) * np.array([1.0, 2.0, 0.1])[population]).sum(axis=1)) ** slope


def test_what_is_written_is_read(tmp_path):
    written = device("phone", 30)
    write_device(tmp_path / "phone.csv", SPACE, written)
    read = read_device(tmp_path / "phone.csv", SPACE)
    assert read.name == "phone"
    assert (read.population == written.population).all()
    assert read.milliseconds == pytest.approx(written.milliseconds, rel=1e-5)


def test_a_folder_is_read_without_the_new_device(tmp_path):
    for name in ("b", "a", "new"):
        write_device(tmp_path / f"{name}.csv", SPACE, device(name, 25))
    (tmp_path / "notes.txt").write_text("not a device")
    assert [d.name for d in read_devices(tmp_path, SPACE, but="new")] == ["a", "b"]


HEADER = ",".join([*SPACE.names, "milliseconds"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("block0,milliseconds\nskip,1\n", "lacks the column 'block1'"),
        (f"{HEADER},watts\n", "Unknown column 'watts'"),
        (f"{HEADER}\n", "holds no network"),
        (f"{HEADER}\nskip,skip,skip,skip,skip,conv7,1\n", "line 2: Unknown option of 'block5' 'conv7'"),
        (f"{HEADER}\nskip,skip,skip,skip,skip,skip,fast\n", "line 2: milliseconds holds 'fast'"),
        (f"{HEADER}\nskip,skip,skip,skip,skip,skip,-1\n", "expected a positive number"),
        (f"{HEADER}\nskip,skip,skip,skip,skip,skip\n", "line 2: 6 cells for 7 columns"),
        (f"{HEADER}\n\nskip,skip\n", "line 3: 2 cells"),
        (f"{HEADER}\nskip,skip,skip,skip,skip,skip,1,42\n", "Write decimals with a point"),
        (f"{HEADER},milliseconds\nskip,skip,skip,skip,skip,skip,1,2\n", "has a column twice"),
        ("", "lacks the column 'block0'"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, text, said):
    (tmp_path / "phone.csv").write_text(text)
    with pytest.raises(UsageError, match=said) as error:
        read_device(tmp_path / "phone.csv", SPACE)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="Cannot read"):
        read_device(tmp_path / "phone.csv", SPACE)


def test_known_devices_reach_networks_that_they_never_ran():
    known = KnownDevices(SPACE, [device("a", 150, 0), device("b", 150, 1, slope=0.5)]).fit()
    everything = SPACE.enumerate()
    features = known.transform(everything)
    for column, slope in enumerate((1.0, 0.5)):
        assert np.corrcoef(features[:, column], np.log(exact(everything, slope)))[0, 1] > 0.95
    assert all(errors.mean() < 0.2 for errors in known.errors_)


def test_smoothing_picks_what_foretells_better():
    """Logarithms of sums: boosted trees bend where a straight line cannot; where nothing bends, the line wins."""
    rng = np.random.default_rng(0)
    population = SPACE.sample(300, rng)
    straight = np.exp(0.3 * (population == 1).sum(axis=1))
    bent = np.where((population[:, 0] == 0) & (population[:, 1] == 0), 10.0, 1.0)
    known = KnownDevices(SPACE, [MeasuredDevice("straight", population, straight), MeasuredDevice("bent", population, bent)]).fit()
    assert [type(model[-1]).__name__ for model in known.models_.values()] == ["Ridge", "BoostedTrees"]


def test_a_new_device_needs_known_ones_or_twenty_networks():
    known = [device("a", 100, 0), device("b", 100, 1, slope=0.5)]
    everything = SPACE.enumerate()
    cost = learned(SPACE, device("new", 10, 7, slope=0.7), known)
    assert np.corrcoef(np.log(cost(everything)), np.log(exact(everything, 0.7)))[0, 1] > 0.95
    assert cost.unit == "ms"
    assert cost.residual.networks == 10
    assert 0 < cost.residual.mean < 0.1
    alone = learned(SPACE, device("new", 60, 7, slope=0.7), [])
    assert np.corrcoef(np.log(alone(everything)), np.log(exact(everything, 0.7)))[0, 1] > 0.9
    for beside in ([], [device("short", 12)]):
        with pytest.raises(UsageError, match="no device file beside it has 20"):
            learned(SPACE, device("new", 10), beside)
    with pytest.raises(UsageError, match="has 2 networks; expected 3"):
        learned(SPACE, device("new", 2), known)
    with pytest.raises(UsageError, match="'tiny' has 2 networks; expected 3"):
        learned(SPACE, device("new", 10), [*known, device("tiny", 2)])
    with pytest.raises(UsageError, match="No device was measured before"):
        KnownDevices(SPACE, []).fit()


def test_every_device_that_was_measured_becomes_one_more(rng):
    """Ten networks of a device make it a known one: the next device of its kind is recognised."""
    population = SPACE.sample(120, rng)
    odd = lambda rows: 1.0 + 5.0 * (rows[:, 0] == 1) + 0.5 * (rows == 0).sum(axis=1)  # noqa: E731
    big = [device("a", 120, 0), MeasuredDevice("b", population, odd(population))]
    board = SPACE.sample(10, rng)
    mixed = lambda rows: exact(rows) ** 0.5 * odd(rows) ** 0.5  # noqa: E731
    first = MeasuredDevice("board1", board, mixed(board))
    features = KnownDevices(SPACE, [*big, first]).fit()
    everything = SPACE.enumerate()
    assert features.transform(everything).shape == (len(everything), 3)
    found = np.corrcoef(features.transform(everything)[:, 2], np.log(mixed(everything)))[0, 1]
    assert found > 0.8
    cost = learned(SPACE, MeasuredDevice("board2", board[:5], 2 * mixed(board[:5])), [*big, first])
    assert cost.model[-1].probabilities_.shape == (3,)


def test_a_file_from_a_spreadsheet_is_read(tmp_path):
    """A byte order mark, blank lines, and columns in another order."""
    path = tmp_path / "phone.csv"
    names = ",".join(reversed(SPACE.names))
    path.write_text(f"milliseconds,{names}\r\n1.5,skip,conv3,conv3,conv3,conv3,conv5\r\n\r\n", encoding="utf-8-sig")
    read = read_device(path, SPACE)
    assert SPACE.to_names(read.population[0])["block0"] == "conv5"
    assert SPACE.to_names(read.population[0])["block5"] == "skip"
    assert read.milliseconds.tolist() == [1.5]
