"""The prefix walk against the candidate-by-candidate loop, and that loop against stand-alone networks."""

import numpy as np
import pytest
import torch
from torch import nn

from evonas import UsageError
from supernet import InheritedFitness, accuracy, mbconv, recalibrate, score_one_by_one
from supernet.fitness import walk_order

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts(digits):
    return digits.search.head(150), digits.train.head(200)


def test_walk_equals_one_by_one(trained, parts, rng):
    population = trained.space.sample(40, rng)
    population[20:] = population[:20]
    population[20:, -1] = trained.space.sample(20, rng)[:, -1]
    fast = InheritedFitness(trained, *parts, calibration_batch=64, batch_size=70)
    reference = score_one_by_one(trained, population, *parts, calibration_batch=64, batch_size=70)
    assert (fast.logits(population) - reference).abs().max() <= 1e-4
    expected = (reference.argmax(2) == parts[0].labels).double().mean(1)
    np.testing.assert_allclose(fast(population), expected, atol=1e-12)
    assert fast(population).std() > 0


def test_one_by_one_equals_stand_alone_networks(trained, parts, rng):
    for row in trained.space.sample(5, rng):
        network = trained.subnet(row)
        recalibrate(network, parts[1].batches(64, CPU))
        (logits,) = score_one_by_one(trained, row[None], *parts, calibration_batch=64)
        assert accuracy(network, parts[0], CPU) == pytest.approx((logits.argmax(1) == parts[0].labels).double().mean().item())


def test_recalibration_takes_the_mean_of_batch_statistics():
    norm = nn.BatchNorm2d(2)
    x = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    batches = [(x[:2], None), (x[2:4], None), (x[4:], None)]
    recalibrate(norm, iter(batches))
    torch.testing.assert_close(norm.running_mean, torch.stack([b.mean((0, 2, 3)) for b, _ in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([b.var((0, 2, 3)) for b, _ in batches]).mean(0))


def test_scores_do_not_depend_on_the_company(trained, parts, rng):
    """The same architecture gets the same score, to the bit, alone, among others, in any order and in any batch size."""
    fitness = InheritedFitness(trained, *parts)
    population = trained.space.sample(12, rng)
    together = fitness(population)
    np.testing.assert_array_equal(together, [fitness(row[None])[0] for row in population])
    np.testing.assert_array_equal(together[::-1], fitness(population[::-1]))
    np.testing.assert_array_equal(together, InheritedFitness(trained, *parts, batch_size=17)(population))
    assert fitness(population[:0]).shape == (0,)


def test_the_supernet_is_left_as_it_was(trained, parts, rng):
    trained.train()
    trained.blocks[1].eval()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    modes = [module.training for module in trained.modules()]
    momenta = [m.momentum for m in trained.modules() if isinstance(m, nn.BatchNorm2d)]
    state = torch.get_rng_state()
    InheritedFitness(trained, *parts)(trained.space.sample(3, rng))
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    assert modes == [module.training for module in trained.modules()]
    assert momenta == [m.momentum for m in trained.modules() if isinstance(m, nn.BatchNorm2d)]
    assert torch.equal(state, torch.get_rng_state())


def test_every_shared_prefix_runs_once(trained, parts, rng):
    """Block calls are the nodes of the trie, counted by brute force over prefixes, once for each batch of images."""
    population = trained.space.sample(60, rng)
    population[:, :2] = population[:1, :2]
    read = [tuple(c for columns in trained.columns[: depth + 1] for c in columns) for depth in range(len(trained.columns))]
    nodes = sum(len({tuple(row[list(columns)]) for row in population}) for columns in read)
    calls = []
    hooks = [
        o.register_forward_hook(lambda *_: calls.append(1)) for b in trained.blocks for o in getattr(b, "options", {0: None}).values() if o
    ]
    hooks += [b.module.register_forward_hook(lambda *_: calls.append(1)) for b in trained.blocks if hasattr(b, "module")]
    try:
        InheritedFitness(trained, *parts, batch_size=75, calibration_batch=100)(population)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(calls) == nodes * (2 + 2)


def test_walk_order_shares_what_can_be_shared(trained, rng):
    population = trained.space.sample(50, rng)
    order, shared = walk_order(trained, population)
    assert sorted(order) == list(range(50))
    rows = population[order].tolist()
    for i, n in enumerate(shared[1:], start=1):
        common = next((k for k, (a, b) in enumerate(zip(rows[i - 1], rows[i], strict=True)) if a != b), len(rows[i]))
        assert n == (1 + common if common < len(rows[i]) else len(trained.columns))  # the stem is always shared


def test_running_out_of_memory_halves_the_batch_and_says_so(trained, parts, rng, monkeypatch):
    population = trained.space.sample(5, rng)
    fitness = InheritedFitness(trained, *parts, batch_size=150, calibration_batch=32)
    expected = fitness(population)
    stem = trained.blocks[0].module[0]
    forward = stem.forward

    def small(x):
        if len(x) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x)

    monkeypatch.setattr(stem, "forward", small)
    with pytest.warns(UserWarning, match="batches of 37 images"):
        np.testing.assert_array_equal(fitness(population), expected)
    monkeypatch.setattr(stem, "forward", lambda x: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(UsageError, match="Not enough memory for batch-norm statistics of 32 images"):
        fitness(population)
    assert fitness.batch_size == 37, "the scoring batch was blamed for the calibration batch"


def test_dropout_is_at_rest_while_statistics_are_taken(digits, parts):
    supernet = mbconv(digits.image_shape, 10, depths=(1, 1, 1), dropout=0.9)
    population = supernet.space.sample(2, np.random.default_rng(1))
    fitness = InheritedFitness(supernet, *parts)
    assert torch.equal(fitness.logits(population), fitness.logits(population))
