"""Latency tables: files, corrections, and measuring with a backend that is known exactly."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from evonas import Choice, SearchSpace, UsageError
from evonas.tables import AdditiveCost, CostTable
from predictors import corrected, costs, measure_blocks, read_table
from predictors.devices.runtime import export, export_to_time, largest_difference, measure, run, time_onnx
from predictors.devices.table import LatencyTable, additive, spread
from supernet import mbconv, shuffle
from supernet.blocks import PathsBlock


def count_weights(path, input_shape):
    """A backend whose "milliseconds" are the numbers held in the file: additive, so the table has to be exact."""
    return float(sum(np.prod(t.dims) for t in onnx.load(path).graph.initializer if t.data_type == onnx.TensorProto.FLOAT)) / 1000


@pytest.fixture(scope="module")
def supernet():
    return mbconv((1, 8, 8), 10, depths=(1, 2, 1), kernels=(3, 5), expansions=(3,))


@pytest.fixture(scope="module")
def table(supernet, tmp_path_factory):
    return measure_blocks(supernet.space, supernet.parts(), backend=count_weights)


def test_the_table_is_the_sum_of_its_blocks(supernet, table, tmp_path, rng):
    population = supernet.space.sample(4, rng)
    whole = [measure(supernet.subnet(row), (1, 8, 8), count_weights) for row in population]
    np.testing.assert_allclose(table(population), whole, rtol=0.01)  # the exporter may fold a constant or two
    assert list(tmp_path.iterdir()) == []


def test_correction_recovers_an_affine_truth(supernet, table):
    networks = spread(supernet.space, table, 10, seed=0)
    assert len(np.unique(networks, axis=0)) == 10
    truth = 0.4 * table(networks) + 0.02
    fitted = corrected(table, networks, truth)
    np.testing.assert_allclose(fitted(networks), truth)
    assert fitted.residual.mean < 1e-9
    noise = np.array([1.1, 0.9] * 5)
    noisy = corrected(table, networks, truth * noise)
    assert 0.05 < noisy.residual.mean < 0.15
    assert "10 networks measured whole: mean error" in str(noisy.residual)
    everything = supernet.space.enumerate()
    low, high = fitted(supernet.space.population(fitted.extremes(supernet.space)))
    assert (low, high) == (fitted(everything).min(), fitted(everything).max())


def test_measurements_that_contradict_the_table_are_refused(supernet, table):
    networks = spread(supernet.space, table, 10, seed=0)
    with pytest.raises(UsageError, match="does not grow"):
        corrected(table, networks, 1 / table(networks))


def test_blocks_that_read_two_choices_are_read_back(tmp_path, rng):
    """Operator and width decide a block's time together; the file holds every pair."""
    supernet = shuffle((1, 8, 8), 10, widths=("0.5", "1.0"))
    macs = costs.macs(supernet.space, supernet.parts())
    table = LatencyTable("a phone", replace(macs, unit="ms"))
    table.save(tmp_path / "t.json", supernet.space)
    population = supernet.space.sample(30, rng)
    np.testing.assert_array_equal(read_table(tmp_path / "t.json", supernet.space)(population), table(population))
    content = json.loads((tmp_path / "t.json").read_text())
    pair = content["choices"]["stage0.block0.op,stage0.block0.width"]
    assert list(pair)[:3] == ["shuffle_k3,0.5", "shuffle_k3,1.0", "shuffle_k5,0.5"]
    content["choices"]["stage0.block0.op"] = dict.fromkeys(supernet.space.choices[0].options, 1.0)
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"holds twice the choice 'stage0\.block0\.op'"):
        read_table(tmp_path / "t.json", supernet.space)


def test_a_narrowed_space_measures_what_it_allows(tmp_path, monkeypatch):
    """Channels on fixed blocks: one operator of four is exported, others cost NaN, and the file says nothing of them."""
    supernet = shuffle((1, 8, 8), 10, widths=("0.5", "1.0"))
    narrowed = supernet.space.narrow({name: ["shuffle_k3"] for name in supernet.space.names[::2]})
    calls = []
    monkeypatch.setattr("predictors.devices.table.measure_all", lambda asked, *_: [float(calls.append(m) or len(calls)) for m, _ in asked])
    table = measure_blocks(narrowed, supernet.parts())
    assert len(calls) == 2 + 2 * 4  # stem, head, two widths on four different shapes
    table.save(tmp_path / "t.json", narrowed)
    again = read_table(tmp_path / "t.json", narrowed)
    inside, outside = np.array([[0, 1] * 5]), np.array([[1, 1] * 5])
    assert again(inside)[0] == table(inside)[0] > 0
    assert np.isnan(again(outside)[0])
    low, high = again(narrowed.population(again.extremes(narrowed)))
    assert low <= again(inside)[0] <= high
    with pytest.raises(UsageError, match=r"lacks the option 'shuffle_k5,0\.5'"):
        read_table(tmp_path / "t.json", supernet.space)


def test_pairs_of_choices_fit_what_is_no_sum_of_them(rng):
    """MACs of operator and width are a product: a table over pairs has them exactly, tables over each do not."""
    supernet = shuffle((1, 8, 8), 10, widths=("0.2", "1.0", "1.6"))
    cost = costs.macs(supernet.space, supernet.parts())
    alone = additive(supernet.space, "board", cost, [(i,) for i in range(len(supernet.space))])[1]
    table, pairs = additive(supernet.space, "board", cost, [part.choices for part in supernet.parts() if part.choices])
    assert pairs == pytest.approx(1)
    assert alone < 0.99
    population = supernet.space.sample(20, rng)
    np.testing.assert_allclose(table(population), cost(population), rtol=1e-6)


def test_files_are_read_back(supernet, table, tmp_path, rng):
    networks = spread(supernet.space, table, 10, seed=0)
    fitted = corrected(table, networks, table(networks) * 0.5)
    fitted.save(tmp_path / "t.json", supernet.space)
    again = read_table(tmp_path / "t.json", supernet.space)
    population = supernet.space.sample(20, rng)
    np.testing.assert_array_equal(again(population), fitted(population))
    assert again.residual == fitted.residual


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("choices"), "is no latency table"),
        (lambda t: t.update(unit="s"), "expected the unit 'ms'"),
        (lambda t: t["choices"].pop("stage1.block1.op"), "lacks the choice 'stage1.block1.op'"),
        (lambda t: t["choices"]["stage1.block1.op"].pop("skip"), "lacks the option 'skip'"),
        (lambda t: t["choices"].update({"stage1.block9.op": {}}), "Unknown choice 'stage1.block9.op'"),
        (lambda t: t["choices"]["stage1.block1.op"].update(skip="fast"), "holds 'fast'; expected a finite number"),
        (lambda t: t.update(constant=float("nan")), "constant holds nan"),
    ],
)
def test_wrong_files_are_one_clear_line(supernet, table, tmp_path, change, words):
    table.save(tmp_path / "t.json", supernet.space)
    content = json.loads((tmp_path / "t.json").read_text())
    change(content)
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=words) as error:
        read_table(tmp_path / "t.json", supernet.space)
    assert "\n" not in str(error.value)


def test_exported_networks_compute_what_torch_does(tmp_path, rng):
    supernet = mbconv((3, 16, 16), 5, squeeze_excite=True)
    network = supernet.subnet(supernet.space.sample(1, rng)[0])
    export(network, (3, 16, 16), tmp_path / "m.onnx", dynamic_batch=True)
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert largest_difference(network, tmp_path / "m.onnx", images) <= 1e-4
    assert run(tmp_path / "m.onnx", images.numpy()[:3]).shape == (3, 5)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("older", [True, False])
def test_a_file_that_is_timed_computes_what_torch_does(older, tmp_path, rng, monkeypatch):
    written, exported = [], torch.onnx.export

    def export_with(*arguments, dynamo, **settings):
        if not dynamo and not older:
            raise RuntimeError("this torch has no older exporter")
        written.append(dynamo)
        return exported(*arguments, dynamo=dynamo, **settings)

    monkeypatch.setattr(torch.onnx, "export", export_with)
    supernet = mbconv((3, 16, 16), 5, squeeze_excite=True)
    network = supernet.subnet(supernet.space.sample(1, rng)[0])
    export_to_time(network, (3, 16, 16), tmp_path / "m.onnx")
    assert written == [not older]
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert largest_difference(network, tmp_path / "m.onnx", images) <= 1e-4


def test_time_on_this_host_grows_with_the_network(tmp_path):
    times = []
    for width in (8, 256):
        export(torch.nn.Conv2d(width, width, 3, padding=1), (width, 24, 24), tmp_path / "m.onnx")
        times.append(time_onnx(tmp_path / "m.onnx", (width, 24, 24)))
    assert 0 < 10 * times[0] < times[1]


def test_a_damaged_onnx_file(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"rubbish")
    with pytest.raises(UsageError, match="Cannot run"):
        time_onnx(tmp_path / "m.onnx", (1, 8, 8))


class Product:
    """A latency that is no sum: blocks speed each other up."""

    unit = "ms"

    def __init__(self, table, bend):
        self.table, self.bend = table, bend

    def __call__(self, population):
        return self.table(population) ** self.bend


def test_the_nearest_table_of_a_sum_is_the_sum(supernet, table):
    found, explained = additive(supernet.space, "board", table, [part.choices for part in supernet.parts() if part.choices])
    population = supernet.space.enumerate()
    assert found(population) == pytest.approx(table(population))
    assert explained == pytest.approx(1)
    ends = [found.extremes(supernet.space)[i] for i in (0, 1)]
    assert found(np.array(ends)) == pytest.approx([found(population).min(), found(population).max()])


def test_what_a_table_cannot_say_is_said(supernet, table):
    bent = Product(table, 3.0)
    found, explained = additive(supernet.space, "board", bent, [part.choices for part in supernet.parts() if part.choices])
    population = supernet.space.enumerate()
    left = ((found(population) - bent(population)) ** 2).sum() / ((bent(population) - bent(population).mean()) ** 2).sum()
    assert explained == pytest.approx(1 - left, abs=0.01)
    assert 0.8 < explained < 1


class Wired(nn.Module):
    """Two layers, one after the other or side by side."""

    def __init__(self, side_by_side):
        super().__init__()
        self.side_by_side = side_by_side
        self.layers = nn.ModuleList([nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)])

    def forward(self, x):
        one, two = self.layers
        return one(x) + two(x) if self.side_by_side else two(one(x))


def test_a_block_that_no_text_describes_is_measured_all_the_same():
    """Its layers hold something whose text differs every time that it is made."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.activation = lambda x: x

        def forward(self, x):
            return self.activation(x)

    class OddPart:
        name, choices, input_shapes, following = "odd", (0,), ((1, 4, 4),), None

        def build(self, *options, arriving=0):
            return Odd()

    space = SearchSpace((Choice("a", ("1", "2")),))
    table = measure_blocks(space, [OddPart()], backend=lambda path, shape: 1.0)
    assert table(space.enumerate()).tolist() == [1.0, 1.0]


def test_equal_layers_that_are_wired_differently_are_measured_apart():
    """Equal ones are measured once: three options, two of them equal, two measurements."""
    space = SearchSpace((Choice("op", ("chain", "sum", "again")),))
    modules = [Wired(False), Wired(True), Wired(True)]
    assert repr(modules[0]) == repr(modules[1])
    block = PathsBlock("block", ["op"], {(i,): module for i, module in enumerate(modules)}, nn.ModuleList(modules))
    timed = []

    def backend(path, shape):
        timed.append(path.stat().st_size)
        return float(len(timed))

    table = measure_blocks(space, block.parts((2, 4, 4)), backend=backend)
    assert table.blocks(np.array([[0], [1], [2]])).tolist() == [1.0, 2.0, 2.0]


def test_a_table_whose_blocks_depend_on_what_arrives_is_read_back(tmp_path):
    space = SearchSpace((Choice("a", ("x", "y")), Choice("b", ("x", "y", "z"))))
    tables = (
        CostTable((0,), np.array([1.0, np.nan])),
        CostTable((0,), np.zeros((1, 2)), np.array([[0, 1]])),
        CostTable((1,), np.array([[1.0, 2.0, 3.0], [5.0, 6.0, 9.0]])),
    )
    space = space.narrow({"a": ["x"]})
    LatencyTable("board", AdditiveCost("ms", 0.5, tables), slope=2.0).save(tmp_path / "t.json", space)
    found = read_table(tmp_path / "t.json", space)
    population = np.array([[0, 0], [0, 2]])
    assert found(population).tolist() == [5.0, 9.0]
    content = json.loads((tmp_path / "t.json").read_text())
    content["by_state"][1]["milliseconds"].pop()
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="a table by state is malformed"):
        read_table(tmp_path / "t.json", space)


def test_tables_that_share_a_choice_are_read_back(tmp_path):
    space = SearchSpace((Choice("a", ("x", "y")), Choice("b", ("x", "y"))))
    tables = (CostTable((0, 1), np.array([[1.0, 2.0], [3.0, 4.0]])), CostTable((1,), np.array([0.5, 0.25])))
    LatencyTable("board", AdditiveCost("ms", 0.0, tables)).save(tmp_path / "t.json", space)
    assert read_table(tmp_path / "t.json", space)(space.enumerate()).tolist() == [1.5, 2.25, 3.5, 4.25]


def test_a_block_that_takes_several_tensors_is_not_timed():
    with pytest.raises(UsageError, match="takes several tensors cannot be timed"):
        measure(nn.Identity(), ((2, 4, 4), (2, 4, 4)))
