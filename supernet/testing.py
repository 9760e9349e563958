"""The contracts of ways of training and of search spaces as tests: run them over your own.

    import pytest
    from supernet.testing import SPACE_CHECKS, WAY_CHECKS

    @pytest.mark.parametrize("check", WAY_CHECKS, ids=lambda check: check.__name__)
    def test_my_way(check):
        check(lambda supernet: MyWay())

    @pytest.mark.parametrize("check", SPACE_CHECKS, ids=lambda check: check.__name__)
    def test_my_space(check):
        check(lambda: my_space((1, 8, 8), 10))

Every check raises AssertionError where the contract is broken. `tests/supernet/test_way_contracts.py` and `test_space_contracts.py` run all
of them over everything in `supernet.training.registry.WAYS` and `supernet.spaces.SPACES`.
"""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import random
import tempfile
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evonas.space import SearchSpace
from supernet.blocks import Block, zeros
from supernet.chain import ChainSupernet
from supernet.data import TensorPart
from supernet.evaluation import only_norms_train
from supernet.family import Family
from supernet.fitness import InheritedFitness, score_one_by_one
from supernet.spaces.layout import Layout, Stage
from supernet.spaces.shuffle import shuffle
from supernet.training.loop import train
from supernet.training.way import Moment, Way

MakeWay = Callable[[ChainSupernet], Way]
MakeSpace = Callable[[], Family]

EPOCHS, BATCH, NETWORKS = 4, 32, 6
CPU = torch.device("cpu")


# Ways of training


def training_images(count: int) -> TensorPart:
    """Images that can be told apart: a bright spot in a place for each label."""
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=count)
    images = rng.normal(0, 0.5, (count, 1, 8, 8)).astype(np.float32)
    images[np.arange(count), 0, 2 * labels, 2 * labels] += 3
    return TensorPart(torch.from_numpy(images), torch.from_numpy(labels), torch.zeros(1), torch.ones(1))


def small_supernet(seed: int = 0) -> ChainSupernet:
    """Operators and widths to choose, weights that paths share in parts, options that can be mixed."""
    layout = Layout(8, 1, (Stage(16, 1, 1), Stage(32, 2, 2)), 32)
    return shuffle((1, 8, 8), 4, layout=layout, widths=("0.5", "1.0"), dropout=0.0, seed=seed)


def resumed_to_the_bit(make: MakeWay) -> None:
    """Stopped in any epoch and continued by another process, training ends with the same weights and the same way."""
    whole, way = small_supernet(), None
    way = make(whole)
    losses = _train(whole, way)

    def stop(step: int) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        for stop_at in (4, 8, 11, -1):  # in the second, third and fourth of four epochs of three steps
            again = small_supernet(seed=0 if stop_at == 4 else 9)
            other = make(again)
            try:
                resumed = _train(again, other, checkpoint=Path(folder) / "c.pt", identity="x", on_step=stop)
            except KeyboardInterrupt:
                continue
    assert resumed == losses, "resumed training had other losses"
    _assert_same(whole.state_dict(), again.state_dict(), "resumed training ended with another")
    _assert_same(_tensors(way.state_dict()), _tensors(other.state_dict()), "the way of a resumed training ended with another")
    assert whole.space.allowed == again.space.allowed, "resumed training narrowed the space to another one"


def after_step_leaves_the_network_alone(make: MakeWay) -> None:
    """After what a way does beside a step, weights, statistics and modes of the network are what they were, to the bit.

    (The loop puts statistics and modes back; weights are up to the way.)
    """
    supernet = small_supernet()
    way = make(supernet)
    inner, before = way.after_step, {}

    def watched(network: Any, *rest: Any) -> None:
        before.update({name: value.clone() for name, value in network.state_dict().items()})
        inner(network, *rest)

    def compare(step: int) -> None:
        if before:
            _assert_same(before, supernet.state_dict(), "after_step changed")
        assert all(module.training for module in supernet.modules()), "after_step changed a mode"

    vars(way)["after_step"] = watched  # in the way of the method, for this object alone
    _train(supernet, way, on_step=compare)


def own_parameters_move_and_are_saved(make: MakeWay) -> None:
    """Whatever parameters a way owns are moved by training, and stand in the checkpoint as they were left."""
    supernet = small_supernet()
    way = make(supernet)
    before = {name: value.detach().clone() for name, value in way.named_parameters() if value.requires_grad}
    with tempfile.TemporaryDirectory() as folder:
        _train(supernet, way, checkpoint=Path(folder) / "c.pt")
        saved = torch.load(Path(folder) / "c.pt", weights_only=True)["way"]
    for name, value in way.named_parameters():
        assert name not in before or not torch.equal(before[name], value), f"the way's parameter {name} did not move"
        assert torch.equal(saved[name], value), f"the way's parameter {name} was not saved as it is"


def only_the_allowed_space_is_trained(make: MakeWay) -> None:
    """In a narrowed space nothing is trained that no allowed path uses, and the space never widens."""
    supernet = small_supernet()
    narrowed = supernet.space.narrow({"stage1.block0.op": ["shuffle_k3"], "stage0.block0.op": ["shuffle_k5", "xception"]})
    supernet.space = narrowed
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    _train(supernet, make(supernet))
    reachable: set[int] = set()
    for block, columns in zip(supernet.chain, supernet.columns, strict=True):
        for options in itertools.product(*(narrowed.allowed[column] for column in columns)):
            module = block.active(*options)
            reachable |= {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    for name, value in (*supernet.named_parameters(), *supernet.named_buffers()):
        assert id(value) in reachable or torch.equal(before[name], value), f"{name} was trained, which no allowed path uses"
    assert all(set(now) <= set(then) for now, then in zip(supernet.space.allowed, narrowed.allowed, strict=True)), "the space widened"


def a_space_narrowed_while_training_is_kept(make: MakeWay) -> None:
    """From the end of the epoch in which a space is narrowed, what was taken out of it is no longer trained."""
    supernet = small_supernet()
    way = make(supernet)
    taken_out = supernet.chain[1].active(0, 0)  # the first operator of the first block, at its smaller width
    at_the_time: dict[str, Tensor] = {}

    def narrow(network: Any, held_out: Any, moment: Moment) -> SearchSpace | None:
        if moment.epoch != 1:
            return None
        at_the_time.update({name: value.clone() for name, value in taken_out.state_dict().items()})
        choice = network.space.choices[0]
        return network.space.narrow({choice.name: choice.options[1:]})

    vars(way)["end_of_epoch"] = narrow
    _train(supernet, way)
    assert all(0 not in indices for indices in supernet.space.allowed[:1]), "the space was not narrowed"
    _assert_same(at_the_time, taken_out.state_dict(), "an option that was taken out was trained:")


def global_generators_are_untouched(make: MakeWay) -> None:
    """Training neither reads nor moves the global generators of Python, numpy and torch."""
    results = []
    for seed in (1, 2):
        supernet = small_supernet()
        way = make(supernet)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (the global generator is what is watched)
        torch.manual_seed(seed)
        before = _global_generators()
        _train(supernet, way)
        assert _global_generators() == before, "training moved a global generator"
        results.append(supernet.state_dict())
    _assert_same(results[0], results[1], "global generators decided a")


def team_of_two_equals_one(make: MakeWay) -> None:
    """Two processes that share every batch end with the losses, the weights, and the way, of one that takes it whole (to rounding)."""
    found = team_differences({"way": make})
    assert not found, "; ".join(found.values())


def team_differences(makes: Mapping[str, MakeWay]) -> dict[str, str]:
    """`team_of_two_equals_one` for several ways at the price of starting two processes once: what differs, by the name of the way."""
    import cloudpickle  # carries functions that are defined anywhere into another process

    differences: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        work = cloudpickle.dumps(dict(makes))
        processes = [context.Process(target=_member, args=(work, rank, folder)) for rank in range(2)]
        for process in processes:
            process.start()
        alone = {name: _small_steps(make) for name, make in makes.items()}
        for process in processes:
            process.join(300)
        assert all(process.exitcode == 0 for process in processes), "a process of the team failed"
        for rank in range(2):
            together = torch.load(Path(folder) / f"{rank}.pt", weights_only=True)
            for name, expected in alone.items():
                assert together[name].keys() == expected.keys(), f"{name}: process {rank} ended with other tensors"
                for tensor, value in expected.items():
                    if not torch.allclose(together[name][tensor].double(), value.double(), rtol=1e-4, atol=2e-5):
                        differences[name] = f"process {rank} of {name} ended with another {tensor}"
    return differences


WAY_CHECKS: tuple[Callable[[MakeWay], None], ...] = (
    resumed_to_the_bit,
    after_step_leaves_the_network_alone,
    own_parameters_move_and_are_saved,
    only_the_allowed_space_is_trained,
    a_space_narrowed_while_training_is_kept,
    global_generators_are_untouched,
    team_of_two_equals_one,
)


def _train(supernet: ChainSupernet, way: Way, images: int = 96, **settings: Any) -> list[dict[str, float]]:
    return train(supernet, way, training_images(images), **{"epochs": EPOCHS, "batch_size": BATCH, "lr": 0.05, "seed": 3, **settings})


def _small_steps(make: MakeWay) -> dict[str, Tensor]:
    """Weights and way after steps so small that rounding stays rounding."""
    supernet = small_supernet()
    way = make(supernet)
    losses = _train(supernet, way, images=32, batch_size=16, lr=0.002)
    owned = {f"way: {name}": value for name, value in _tensors(way.state_dict()).items()}
    return {"losses": torch.tensor([list(found.values()) for found in losses]), **supernet.state_dict(), **owned}


def _member(work: bytes, rank: int, folder: str) -> None:
    """One process of a team of two."""
    import cloudpickle
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=240))
    try:
        torch.save({name: _small_steps(make) for name, make in cloudpickle.loads(work).items()}, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def _tensors(state: Any) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _assert_same(one: Any, other: Any, what: str) -> None:
    assert one.keys() == other.keys(), f"{what} list of tensors"
    for name, value in one.items():
        assert torch.equal(value, other[name]), f"{what} {name}"


def _global_generators() -> tuple[Any, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


# Search spaces


def path_equals_subnet(make: MakeSpace) -> None:
    """A path inside of the supernet computes what its copy computes, in training and after it; and so it does with others in one batch."""
    supernet, population, images = _prepared(make())
    with torch.no_grad():
        for row in population:
            copied = supernet.subnet(row)
            only_norms_train(supernet)
            only_norms_train(copied)
            found, expected = supernet(images, row), copied(images)
            assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max())), (
                "in training, a path differs from its copy"
            )
        supernet.eval()
        expected = torch.stack([supernet.subnet(row).eval()(images) for row in population])
        found = torch.stack([supernet(images, row) for row in population])
        alike = all(not block.shaped_by or type(block).per_image is not Block.per_image for block in supernet.chain)
        mixed = supernet(images[: len(population)], population) if alike else None
    largest = 1e-5 * max(1.0, float(expected.abs().max()))
    assert (found - expected).abs().max() <= largest, "a path gives other outputs than its copy"
    diagonal = torch.stack([expected[i, i] for i in range(len(population))])
    assert mixed is None or (mixed - diagonal).abs().max() <= largest, (
        "an architecture for every image gives other outputs than one for all"
    )


def gradients_stay_on_the_path(make: MakeSpace) -> None:
    """A step over a path gives gradients to the parameters that its modules hold, and to no others."""
    supernet, population, images = _prepared(make())
    supernet.train()
    supernet(images, population[0]).square().sum().backward()
    used = {id(parameter) for module in supernet.active(population[0]) for parameter in module.parameters()}
    for name, parameter in supernet.named_parameters():
        assert id(parameter) in used or parameter.grad is None, f"{name} got a gradient and is not on the path"
    assert any(parameter.grad is not None for parameter in supernet.parameters()), "nothing got a gradient"


def costs_equal_counted_ones(make: MakeSpace) -> None:
    """The parts of a network add up to it, in parameters and in multiply-accumulates as torch counts them."""
    supernet, population, _ = _prepared(make())
    parts = supernet.parts()
    for row in population:
        state, sums = 0, np.zeros(2)
        for part in parts:
            options = tuple(int(row[column]) for column in part.choices)
            if part.following is not None:
                state = int(part.following[(state, *options)])
                continue
            arriving = state if len(part.input_shapes) > 1 else 0
            sums += _counts(part.build(*options, arriving=arriving), part.input_shapes[arriving])
        whole = _counts(supernet.subnet(row), supernet.image_shape)
        assert (sums == whole).all(), f"the parts of {tuple(row)} have {sums} parameters and operations, the network {whole}"


def walk_equals_loop(make: MakeSpace) -> None:
    """The prefix walk scores a population as the candidate-by-candidate loop does."""
    supernet, population, images = _prepared(make())
    population = np.concatenate([population, population[:2], population[::-1]])
    population[: len(population) // 2, 0] = population[0, 0]
    population = supernet.space.canonical(population)
    labels = torch.zeros(len(images), dtype=torch.int64)
    part = TensorPart(images, labels, torch.zeros(images.shape[1]), torch.ones(images.shape[1]))
    fast = InheritedFitness(supernet, part, part, batch_size=5, calibration_batch=4).logits(population)
    reference = score_one_by_one(supernet, population, part, part, batch_size=5, calibration_batch=4)
    assert (fast - reference).abs().max() <= 1e-4, "the walk gives other logits than the loop"


def onnx_equals_pytorch(make: MakeSpace) -> None:
    """An exported network computes what PyTorch computes; where it rounds to few levels, on average."""
    import onnxruntime

    family = make()
    row = family.space.sample(1, np.random.default_rng(5))[0]
    network = family.network(row, seed=1).eval()
    images = _images(family)[:1]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = str(Path(folder) / "network.onnx")
        torch.onnx.export(network, (images,), path, dynamo=True, external_data=False, verbose=False, input_names=["images"])
        found = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": images.numpy()})[0]
        expected = network(images).numpy()
    rounds = any(hasattr(layer, "weight_bits") for layer in network.modules())
    difference = np.abs(found - expected)
    assert difference.mean() <= 0.05 * expected.std() if rounds else difference.max() <= 1e-4, "the ONNX file computes something else"


def narrowed_space_keeps_the_weights(make: MakeSpace) -> None:
    """Narrowing a supernet's space changes no weight and no output, and what is sampled then lies inside."""
    supernet, population, images = _prepared(make())
    row = population[0]
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    with torch.no_grad():
        expected = supernet(images, row)
        space = supernet.space
        some = {
            c.name: [c.options[int(o)], c.options[space.allowed[i][0]]] for i, (c, o) in enumerate(zip(space.choices, row, strict=True))
        }
        supernet.space = space.narrow(some)
        assert supernet.space.contains(supernet.space.sample(20, np.random.default_rng(0))).all() or space.canonicalise is not None
        assert torch.equal(supernet(images, row), expected), "narrowing changed what a path computes"
        copied = supernet.subnet(row).eval()(images)
        assert (copied - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max())), "narrowing changed what a copy computes"
    _assert_same(before, supernet.state_dict(), "narrowing changed")


def seed_decides_the_weights(make: MakeSpace) -> None:
    """A network on its own has the weights of its seed, whatever the supernet learned and whatever torch drew before."""
    family = make()
    row = family.space.sample(1, np.random.default_rng(6))[0]
    torch.manual_seed(1)
    one = family.network(row, seed=4).state_dict()
    torch.manual_seed(2)
    _assert_same(one, family.network(row, seed=4).state_dict(), "the same seed gave another")
    other = family.network(row, seed=5).state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in one.items()), "two seeds gave the same weights"


FAMILY_CHECKS: tuple[Callable[[MakeSpace], None], ...] = (onnx_equals_pytorch, seed_decides_the_weights)
"""For families of networks that are trained on their own."""

SPACE_CHECKS: tuple[Callable[[MakeSpace], None], ...] = (
    path_equals_subnet,
    gradients_stay_on_the_path,
    costs_equal_counted_ones,
    walk_equals_loop,
    narrowed_space_keeps_the_weights,
    *FAMILY_CHECKS,
)
"""For supernets."""


def _images(family: Family) -> Tensor:
    return torch.randn(8, *family.image_shape, generator=torch.Generator().manual_seed(0))


def _prepared(supernet: Family) -> tuple[ChainSupernet, np.ndarray, Tensor]:
    """The supernet with statistics and norms that are not those of its beginning, some architectures, and some images."""
    assert isinstance(supernet, ChainSupernet), f"{type(supernet).__name__} is no supernet; run FAMILY_CHECKS over it"
    generator = torch.Generator().manual_seed(7)
    for layer in supernet.modules():
        if isinstance(layer, nn.BatchNorm2d):
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
                nn.init.uniform_(layer.bias, -0.5, 0.5, generator=generator)
            if isinstance(layer.running_mean, Tensor) and isinstance(layer.running_var, Tensor):
                layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=generator) / 5)
                layer.running_var.copy_(0.5 + torch.rand(layer.running_var.shape, generator=generator))
    return supernet.eval(), supernet.space.sample(NETWORKS, np.random.default_rng(3)), _images(supernet)


def _counts(module: nn.Module, shape: Any) -> np.ndarray:
    """Parameters, and multiply-accumulates as torch's own counter has them (which counts two operations for each)."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copy.deepcopy(module).eval()(zeros(shape))
    return np.array([sum(parameter.numel() for parameter in module.parameters()), counter.get_total_flops()])
