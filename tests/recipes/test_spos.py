"""The SPOS recipe: what it searches, what it delivers, and what it never looks at."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from command import here

import recipes.spos
from evonas.study import open_study
from predictors import costs
from predictors.costs import AdditiveCost
from predictors.devices.known import read_device
from predictors.devices.learned import learned_table
from predictors.devices.runtime import run as run_onnx
from predictors.devices.table import LatencyTable
from recipes.runner.delivery import load_model
from recipes.runner.movements import REESTIMATION_SEED, reestimate
from recipes.spos import PRESETS, SIZES
from supernet import load, quantised, shuffle
from supernet.spaces import WIDTHS
from supernet.spaces.layout import preset_for
from supernet.training.schedule import linear

SMALL = ["--data", "digits", "--epochs", "4", "--retrain-epochs", "2", "--evaluations", "30", "--finalists", "1", "--device", "cpu"]


class Unopened:
    """The test images, which nothing may look at before the winner is chosen."""

    def __init__(self, part, out):
        self.part, self.out = part, out

    def __len__(self):
        return len(self.part)

    def __getattr__(self, name):
        assert (self.out / "winner.json").exists(), "the search looked at the test images"
        return getattr(self.part, name)


def phone(path, widths):
    """A latency table of a device that is not here: 1 ms for 100,000 MACs."""
    supernet = shuffle((1, 8, 8), 10, widths=widths)
    macs = costs.macs(supernet.space, supernet.parts())
    blocks = AdditiveCost("ms", macs.constant / 1e5, tuple((columns, table / 1e5) for columns, table, _ in macs.tables))
    LatencyTable("a phone", blocks).save(path, supernet.space)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Blocks, then channels on them, and bits; each in a run folder."""
    folder = tmp_path_factory.mktemp("spos")
    with pytest.MonkeyPatch.context() as patch:
        guarded = {"out": None}
        patch.setattr(recipes.spos, "load", lambda *a, **k: replace(load(*a, **k), test=Unopened(load("digits").test, guarded["out"])))
        commands = {
            "blocks": [
                *("--budget", "macs=480k", "--budget", "latency=5ms", "--sampler", "bins"),
                *("--latency-table", phone(folder / "p.json", ("1.0",))),
            ],
            "channels": [
                *("--search", "channels", "--blocks", folder / "blocks", "--budget", "macs=480k"),
                *("--latency-table", phone(folder / "w.json", WIDTHS)),
            ],
            "bits": ["--search", "bits", "--budget", "bitops=30%", "--inherit"],
        }
        for name, arguments in commands.items():
            guarded["out"] = folder / name
            done = here("spos", *SMALL, *arguments, "--out", folder / name)
            assert done.returncode == 0, done.stderr + done.stdout
    return folder


@pytest.mark.parametrize("name", ["blocks", "channels", "bits"])
def test_what_is_delivered_is_what_is_promised(runs, name):
    """Bounds are kept, and the two files compute what the result says."""
    out = runs / name
    result = json.loads((out / "result.json").read_text())
    assert result["recipe"] == "spos"
    for cost, bound in result["bounds"].items():
        assert result["costs"][cost] <= bound["upper"]
        assert result["units"][cost] == bound["unit"]
    images, labels = next(load("digits").test.batches(500, torch.device("cpu")))
    network = load_model(out / "model.pt")
    with torch.no_grad():
        logits = network(images)
    assert (logits.argmax(1) == labels).double().mean().item() == pytest.approx(result["accuracy"]["test"])
    exported = run_onnx(out / "model.onnx", images.numpy())
    differences = np.abs(exported - logits.numpy()).max(axis=1)
    if name == "bits":  # an activation between two levels may take the other one: rare, and no other class for it
        assert (differences <= 1e-4).mean() > 0.9
        assert (exported.argmax(1) == logits.argmax(1).numpy()).mean() > 0.99
    else:
        assert differences.max() <= 1e-4
    for file in ("report.html", "best_so_far.png", "architecture.png"):
        assert (out / file).stat().st_size > 1000, file
    trials = open_study(out / "study.log", "search").trials
    assert len({tuple(trial.params.values()) for trial in trials}) == len(trials) == 30


def test_channels_are_searched_on_the_blocks_that_were_found(runs):
    blocks, found = (json.loads((runs / name / "result.json").read_text())["architecture"] for name in ("blocks", "channels"))
    assert {choice: option for choice, option in found.items() if choice.endswith(".op")} == blocks
    widths = [option for choice, option in found.items() if choice.endswith(".width")]
    assert len(widths) == len(blocks)
    for trial in open_study(runs / "channels" / "study.log", "search").trials:
        assert {choice: option for choice, option in trial.params.items() if choice in blocks} == blocks


def test_bits_are_bounded_by_bit_ops_and_not_by_time(runs):
    """The bound "30%" is the cheapest part of the space, counted afresh; there is no latency."""
    result = json.loads((runs / "bits" / "result.json").read_text())
    space = quantised((1, 8, 8), 10)
    cost = costs.bit_ops(space.space, space.parts())
    row = space.space.from_names(result["architecture"])
    assert result["costs"]["bitops"] == cost(np.array([row]))[0]
    assert (cost(space.space.sample(4000, np.random.default_rng(1))) <= result["bounds"]["bitops"]["upper"]).mean() == pytest.approx(
        0.3, abs=0.04
    )
    assert result["latency"] is None
    assert "Latency of" not in (runs / "bits" / "report.html").read_text()


def test_the_presets_are_the_published_ones():
    paper, port = PRESETS["imagenet"], PRESETS["cifar"]
    images = 1_281_167
    assert round(paper.epochs * images / paper.batch_size, -4) == 150_000
    assert round(paper.retrain_epochs * images / paper.batch_size, -4) == 300_000
    assert (paper.lr, paper.weight_decay, paper.decay, paper.color_jitter, paper.calibration_images) == (0.5, 4e-5, linear, 0.4, 25_600)
    assert (port.epochs, port.batch_size, port.lr, port.weight_decay) == (600, 96, 0.025, 3e-4)
    assert [preset_for(size, SIZES) for size in (8, 16, 32, 224)] == ["small", "small", "cifar", "imagenet"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--search", "block"], "Did you mean 'blocks'"),
        (["--preset", "image"], "Unknown preset 'image'"),
        (["--sampler", "bin"], "Did you mean 'bins'"),
        (["--search", "channels"], "without --blocks"),
        (["--blocks", "runs/b"], "with --blocks"),
        (["--search", "channels", "--blocks", "runs/b"], "no finished run in runs/b"),
        (["--search", "bits", "--sampler", "bins"], "expected uniform or warm-up"),
        (["--search", "bits", "--budget", "latency=3ms"], "Unknown cost 'latency'"),
        (["--layout", "resnet18"], "Unknown layout 'resnet18'"),
        (["--sampler", "warm-up"], "where all have one width"),
        (["--search", "bits", "--latency-table", "t.json"], "latency is no cost; leave it out"),
        (["--search", "joint", "--epochs", "3"], "of 3 epochs; expected 4 or more"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = here("spos", *SMALL, "--out", "runs/x", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_blocks_of_another_space_are_refused(runs, tmp_path):
    done = here(
        "spos", *SMALL, "--search", "channels", "--blocks", runs / "blocks", "--layout", "tiny", "--out", tmp_path / "x", "--data", "digits"
    )
    assert done.returncode == 2
    assert "found 5 blocks of the layout for its image size on digits; expected the 7 of this one" in done.stderr
    other = here("spos", *SMALL, "--search", "channels", "--blocks", runs / "bits", "--out", tmp_path / "x")
    assert other.returncode == 2
    assert "is no search for blocks" in other.stderr


def test_only_a_whole_supernet_of_the_same_kind_is_searched_again(runs, tmp_path):
    """One that was killed half-way has widths that were never trained; one of other blocks has other weights."""
    same = ["spos", *SMALL, "--search", "channels", "--blocks", runs / "blocks", "--latency-table", phone(tmp_path / "w.json", WIDTHS)]
    other = here(*same, "--supernet", runs / "bits", "--out", tmp_path / "1")
    assert other.returncode == 2
    assert "family: quantised, expected shuffle" in other.stderr
    half = tmp_path / "half"
    half.mkdir()
    content = torch.load(runs / "channels" / "supernet.pt", weights_only=True)
    torch.save({**content, "losses": content["losses"][:2]}, half / "supernet.pt")
    unfinished = here(*same, "--supernet", half, "--out", tmp_path / "2")
    assert unfinished.returncode == 2
    assert "has 2 of 4 epochs; finish that run first" in unfinished.stderr
    torch.save({**content, "network": {"other": torch.zeros(1)}}, half / "supernet.pt")
    renamed = here(*same, "--supernet", half, "--out", tmp_path / "3")
    assert renamed.returncode == 2
    assert "written by another version of this network" in renamed.stderr


def test_statistics_are_taken_anew_over_all_training_images(digits):
    """After `reestimate`, the first batch norm holds the means of its inputs over whole augmented batches, counted by hand."""
    network = shuffle(digits.image_shape, 10).subnet((0,) * 5, fresh_seed=0)
    reestimate(network, digits, torch.device("cpu"))
    batches = [images for images, _ in digits.train.epoch(128, REESTIMATION_SEED, torch.device("cpu"))]
    assert len(batches) == len(digits.train) // 128 > 1
    convolution, norm = network.stem[0], network.stem[1]
    with torch.no_grad():
        outputs = [convolution(images) for images in batches]
    means = torch.stack([x.mean((0, 2, 3)) for x in outputs]).mean(0)
    variances = torch.stack([x.var((0, 2, 3)) for x in outputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, variances, rtol=1e-4, atol=1e-5)


def test_a_device_is_measured_on_the_space_that_is_searched(tmp_path, monkeypatch):
    """Networks with widths are measured, and the file is read back; options of another space are refused."""
    monkeypatch.setattr("recipes.runner.measure.measure", lambda module, *rest: float(sum(p.numel() for p in module.parameters())) / 1e4)
    board = tmp_path / "board.csv"
    done = here("measure", "--data", "digits", "--space", "shuffle-widths", "--networks", "20", "--out", board)
    assert done.returncode == 0, done.stderr
    supernet = shuffle((1, 8, 8), 10, widths=WIDTHS)
    narrowed = supernet.space.narrow({name: ["xception"] for name in supernet.space.names[::2]})
    supernet.space = narrowed  # as a search for channels does; the file holds networks of the whole space
    table, notes = learned_table(board, supernet.space, supernet.parts())
    assert table.device == "board"
    assert "latency of board" in notes[0]
    device = read_device(board, shuffle((1, 8, 8), 10, widths=WIDTHS).space)
    expected = costs.params(supernet.space, supernet.parts())(device.population) / 1e4
    np.testing.assert_allclose(device.milliseconds, expected)
    assert len(np.unique(device.population[:, 1::2])) > 1
    for arguments, words in (
        (["--space", "skip"], "have no supernet"),
        (["--space", "shuffle", "--depths", "1,2"], "unexpected keyword argument 'depths'"),
    ):
        refused = here("measure", *arguments, "--out", tmp_path / "other.csv")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert words in refused.stderr
