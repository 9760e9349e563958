"""Published tables: known optima, the authors' formats, and costs added up by hand."""

import gzip
import json
import sys
import types

import numpy as np
import pytest

from evonas import Budget, UsageError
from evonas.once_for_all import OnceForAllSurrogate, once_for_all_latency, once_for_all_space
from evonas.tabular import (
    Lookup,
    architecture_of,
    nasbench201,
    nasbench201_latency,
    nasbench201_space,
    nasbench_macro,
    nasbench_macro_space,
    nats_bench,
    nats_size_space,
)


@pytest.mark.parametrize(
    ("column", "best", "cells"),
    [
        ("test200_cifar10", 0.943733, ["nor_conv_3x3"]),
        ("test200_cifar100", 0.735133, ["nor_conv_3x3"]),
        ("test200_in16", 0.473111, ["nor_conv_1x1"]),
    ],
)
def test_optima_of_nasbench201(tables, column, best, cells):
    table = nasbench201(tables / "nasbench201_accuracy.npz")
    scores = table.lookup(column)(table.space.enumerate())
    assert len(scores) == 15_625
    assert scores.max() == pytest.approx(best, abs=1e-6)
    assert table.space.to_names(table.space.enumerate()[scores.argmax()])["1<-0"] in cells


def test_latencies_of_cells_are_costs(tables):
    table = nasbench201(tables / "nasbench201_accuracy.npz")
    latency = nasbench201_latency(tables / "nasbench201_latency.npz", table).lookup("pixel3", unit="ms")
    budget = Budget({"latency": latency}, ["latency=10ms"])
    arrays = np.load(tables / "nasbench201_latency.npz")
    measured = arrays["help_latency_ms"][:, list(arrays["help_devices"]).index("pixel3")]
    np.testing.assert_array_equal(budget.feasible(table.architectures), measured <= 10)


def test_macro_reads_the_authors_json_and_the_arrays_alike(tables, tmp_path):
    arrays = np.load(tables / "nasbench_macro.npz")
    columns = (arrays[name][:50] for name in ("arch", "test_acc", "mean_acc", "params", "flops"))
    official = {
        "".join(map(str, row)): {"test_acc": test.tolist(), "mean_acc": float(mean), "params": int(params), "flops": int(flops)}
        for row, test, mean, params, flops in zip(*columns, strict=True)
    }
    (tmp_path / "nas-bench-macro_cifar10.json").write_text(json.dumps(official))
    ours, theirs = nasbench_macro(tables / "nasbench_macro.npz"), nasbench_macro(tmp_path / "nas-bench-macro_cifar10.json")
    rows = arrays["arch"][:50].astype(int)
    for column in ("test", "params", "macs"):
        np.testing.assert_allclose(ours.lookup(column)(rows), theirs.lookup(column)(rows))
    np.testing.assert_allclose(theirs.lookup("test")(rows), arrays["mean_acc"][:50] / 100, atol=1e-5)


def test_one_run_a_network_is_one_of_its_runs(tables):
    table = nasbench_macro(tables / "nasbench_macro.npz")
    drawn, again = (table.lookup("test", run=seed)(table.architectures) for seed in (1, 1))
    np.testing.assert_array_equal(drawn, again)
    chosen = table.columns["test"] == drawn[:, None]
    assert chosen.any(axis=1).all()
    assert 0.3 < chosen[:, 0].mean() < 0.4  # each of three runs a third of the time


def test_a_table_that_does_not_fit_is_refused(tmp_path):
    space = nasbench_macro_space()
    rows = np.zeros((2, 8), dtype=int)
    with pytest.raises(UsageError, match="twice"):
        Lookup(space, rows, [1.0, 2.0])
    with pytest.raises(UsageError, match="do not fit"):
        Lookup(space, rows, [1.0])
    with pytest.raises(UsageError, match="holds no architecture"):
        Lookup(space, rows[:1], [1.0])(rows + 1)
    (tmp_path / "wrong.json").write_text('{"00": {"accuracy": 1}}')
    with pytest.raises(UsageError, match="not NAS-Bench-Macro"):
        nasbench_macro(tmp_path / "wrong.json")
    with pytest.raises(UsageError, match="Cannot read"):
        nasbench201(tmp_path / "absent.npz")


def test_nats_bench_through_its_package(monkeypatch):
    """The package's interface, as its version 1.8 has it, over four networks."""
    names = ["64:16:8:8:32", "8:8:8:8:8", "24:24:24:24:24", "8:16:24:32:40"]

    class Interface:
        def __len__(self):
            return len(names)

        def arch(self, index):
            return names[index]

        def get_more_info(self, index, dataset, iepoch=None, hp="12", is_random=True):
            assert is_random is False
            return {"test-accuracy": {"cifar10": 90, "cifar100": 70, "ImageNet16-120": 40}[dataset] + index + (0.5 if hp == "90" else 0)}

    opened = []
    package = types.SimpleNamespace(create=lambda path, kind, fast_mode, verbose: opened.append((path, kind)) or Interface())
    monkeypatch.setitem(sys.modules, "nats_bench", package)
    with pytest.raises(UsageError, match="trust_pickle=True"):
        nats_bench("folder", "size")
    table = nats_bench("folder", "size", trust_pickle=True)
    assert opened == [("folder", "sss")]
    row = np.array([nats_size_space().from_names({f"layer{i}.width": width for i, width in enumerate(["8", "16", "24", "32", "40"])})])
    assert table.lookup("full_in16")(row) == pytest.approx(0.435)
    assert table.lookup("cheap_cifar10")(row) == pytest.approx(0.93)
    with pytest.raises(UsageError, match="topology"):
        nats_bench("folder", "shape", trust_pickle=True)


def test_the_official_string_of_a_cell():
    space = nasbench201_space()
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    assert space.to_names(architecture_of(text, space)) == {
        "1<-0": "nor_conv_3x3",
        "2<-0": "none",
        "2<-1": "skip_connect",
        "3<-0": "avg_pool_3x3",
        "3<-1": "nor_conv_1x1",
        "3<-2": "nor_conv_3x3",
    }


def test_cell_strings_of_the_real_table(tables):
    arrays = np.load(tables / "nasbench201_accuracy.npz")
    for row in (0, 857, 6111, 15_624):
        assert architecture_of(arrays["arch_str"][row].decode(), nasbench201_space()) == tuple(arrays["ops"][row])


def test_once_for_all_latency_is_the_sum_of_its_blocks(tables, rng):
    blocks = json.loads(gzip.decompress((tables / "latency_luts.json.gz").read_bytes()))["ofa_mbv3_note10_ms"]["224"]
    space, latency = once_for_all_space(), once_for_all_latency(tables / "latency_luts.json.gz")
    for row in space.sample(20, rng):
        names, side, width = space.to_names(row), 112, 24
        total = sum(value[0] for key, value in blocks.items() if not key.startswith("expanded_conv") or "expand:24-" in key)
        for stage, (out, stride) in enumerate([(32, 2), (48, 2), (96, 2), (136, 1), (192, 2)]):
            for block in range(int(names[f"stage{stage}.depth"])):
                kernel, expansion = names[f"stage{stage}.block{block}.kernel"], int(names[f"stage{stage}.block{block}.expansion"])
                step = stride if block == 0 else 1
                start = f"expanded_conv-input:{side}x{side}x{width}-output:{side // step}x{side // step}x{out}-"
                (found,) = (v for k, v in blocks.items() if k.startswith(f"{start}expand:{width * expansion}-kernel:{kernel}-"))
                total, side, width = total + found[0], side // step, out
        assert latency(row[None])[0] == pytest.approx(total)


def test_once_for_all_surrogate_on_one_network_at_a_time(tables, rng):
    arrays = np.load(tables / "ofa_mbv3_accuracy_surrogate.npz")
    space = once_for_all_space()
    assert 2e19 < 7371**5 < space.count()
    population = space.sample(10, rng)
    np.testing.assert_array_equal(population, space.canonical(population))
    predicted = OnceForAllSurrogate(tables / "ofa_mbv3_accuracy_surrogate.npz")(population)
    for row, value in zip(population, predicted, strict=True):
        names, x = space.to_names(row), np.zeros(128)
        for block in range(20):
            stage, place = divmod(block, 4)
            if place < int(names[f"stage{stage}.depth"]):
                x[3 * block + [3, 5, 7].index(int(names[f"stage{stage}.block{place}.kernel"]))] = 1
                x[60 + 3 * block + [3, 4, 6].index(int(names[f"stage{stage}.block{place}.expansion"]))] = 1
        x[120 + (224 - 112) // 16] = 1
        for i in range(3):
            x = np.maximum(arrays[f"W{i}"] @ x + arrays[f"b{i}"], 0)
        assert value == pytest.approx((arrays["W3"] @ x + arrays["b3"])[0], rel=1e-5)
