"""Ensembles: what is shared costs once, members in any order are one network, the trunk learns at the pace of a single one."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from evonas import UsageError
from evonas.explorers.variation import deap_random
from predictors import costs
from supernet import InheritedFitness, Shrinking, ensemble, train
from supernet import testing as t
from supernet.ensemble_block import Together
from supernet.ensemble_variation import crossover, mutation
from supernet.fitness import score_one_by_one
from supernet.shrinking.diversity import diversity_of_options, jensen_shannon
from supernet.spaces.ensemble_code import from_code, to_code
from supernet.spaces.layout import Layout, Stage
from supernet.training.ensemble import EnsembleAlone, EnsemblePaths, members_of, sum_of_losses

LAYERS = 5


def small(**settings):
    return ensemble((1, 8, 8), 4, **{"layout": "digits", "widths": (8, 12, 16), "depths": (1, 2, 2), "kernels": (3, 5), **settings})


def row_of(supernet, shared, *paths):
    """An architecture from the number of shared layers and the operators of every member."""
    return supernet.space.canonical(np.array([[shared, *(option for path in paths for option in path)]]))[0]


def test_what_is_shared_costs_once():
    """A split later by a layer saves what that layer costs a member; with all apart an ensemble costs two networks but for the stem."""
    supernet = small()
    macs = costs.macs(supernet.space, supernet.parts())
    path = [0, 1, 2, 3, 0]
    found = [float(macs(row_of(supernet, shared, path, path)[None])[0]) for shared in range(LAYERS + 1)]
    counted = [costs.count_macs(supernet.subnet(row_of(supernet, shared, path, path)), (1, 8, 8)) for shared in range(LAYERS + 1)]
    assert found == counted
    network = supernet.subnet(row_of(supernet, 0, path, path))
    stem = costs.count_macs(network[0].module, (1, 8, 8))
    layers = [costs.count_macs(block.members[0], shape) for block, shape in zip(list(network)[1:-1], shapes(supernet)[:-1], strict=True)]
    assert np.diff(found[::-1]).tolist() == layers[::-1]
    head = costs.count_macs(network[-1].heads[0], shapes(supernet)[-1])
    assert found[0] == stem + 2 * (sum(layers) + head)


def shapes(supernet):
    """What arrives at every layer, and at the heads."""
    arriving, found = (1, 8, 8), []
    for block, columns in zip(supernet.chain, supernet.columns, strict=True):
        found.append(arriving)
        if block is not supernet.chain[-1]:
            arriving = block.hands_on(*([0] * len(columns)), input_shape=arriving)
    return [shape[0] for shape in found[1:]]


def test_members_in_any_order_are_one_architecture():
    supernet = small(members=3)
    rng = np.random.default_rng(0)
    rows = supernet.space.sample(200, rng)
    paths = rows[:, 1:].reshape(200, 3, LAYERS)
    permuted = np.concatenate([rows[:, :1], paths[:, [2, 0, 1]].reshape(200, -1)], axis=1)
    shared = np.arange(LAYERS) < rows[:, :1]
    permuted[:, 1:].reshape(200, 3, LAYERS)[:, 0][shared] = paths[:, 0][shared]
    assert np.array_equal(supernet.space.canonical(permuted), rows)
    assert np.array_equal(supernet.space.canonical(rows), rows)
    assert supernet.space.canonical(rows[:0]).shape == (0, rows.shape[1])
    for row, private in zip(rows, paths, strict=True):
        assert (private[:, : row[0]] == private[:1, : row[0]]).all()
        assert sorted(private.tolist()) == private.tolist()


def test_equal_heads_say_what_one_of_them_says():
    """With everything shared; and the mean is that of the members' logits in any case."""
    supernet = t._prepared(small())[0]
    images = t._images(supernet)
    path = [0, 1, 2, 3, 0]
    row = row_of(supernet, LAYERS, path, path)
    apart = supernet.subnet(row_of(supernet, 1, path, [3, 3, 3, 2, 2])).eval()
    with torch.no_grad():
        logits = members_of(list(apart), images)
        torch.testing.assert_close(apart(images), logits.mean(0))
        assert (logits[0] - logits[1]).abs().max() > 1e-3
        heads = supernet.chain[-1].heads
        heads[1].load_state_dict(heads[0].state_dict())
        network = supernet.subnet(row).eval()
        alone = network[-1].heads[0]
        x = images
        for module in list(network)[:-1]:
            x = module(x)
        torch.testing.assert_close(network(images), alone(x[0]))


@pytest.mark.parametrize("shared", [0, 2, LAYERS])
def test_the_trunk_gets_the_mean_of_what_members_send_back(shared):
    """Against members one by one, without any division; their own parts get all of it."""
    supernet = t._prepared(small())[0]
    images, labels = t._images(supernet), torch.arange(8) % 4
    network = supernet.subnet(row_of(supernet, shared, [0, 1, 2, 3, 0], [1, 2, 2, 1, 1])).eval()
    sum_of_losses(members_of(list(network), images), labels, 0.0).backward()
    found = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    members = []
    for member in range(2):
        network.zero_grad()
        x = network[0].module(images)
        for layer in list(network)[1:-1]:
            x = layer.module(x) if isinstance(layer, Together) else layer.members[member](x)
        cross_entropy(network[-1].heads[member](x), labels).backward()
        members.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in found.items():
        parts = [each[name] for each in members if each[name] is not None]
        own = ".members." in name or ".heads." in name
        assert len(parts) == (1 if own else 2)
        torch.testing.assert_close(gradient, sum(parts) if own else sum(parts) / 2, rtol=1e-4, atol=1e-6)


def test_members_are_trained_and_fall_in_loss():
    supernet = small()
    losses = train(supernet, EnsemblePaths(), t.training_images(192), epochs=4, batch_size=32, lr=0.05)
    assert losses[-1]["loss"] < losses[0]["loss"]
    network = supernet.network(row_of(supernet, 2, [0, 1, 2, 3, 0], [1, 2, 2, 1, 1]), seed=3)
    alone = train(network, EnsembleAlone(), t.training_images(192), epochs=6, batch_size=32, lr=0.05)
    assert alone[-1]["loss"] < 0.8 * alone[0]["loss"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: small(members=1), "at least 2"),
        (lambda: small(splits=(3, 2)), "ascending numbers of layers, 0 to 5"),
        (lambda: small(splits=(2, 9)), "0 to 5"),
        (lambda: train(t.small_supernet(), EnsemblePaths(), t.training_images(64), epochs=1, batch_size=32), "heads of an ensemble"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()


def test_only_some_splits():
    """Every block knows what an option of the split means."""
    supernet = t._prepared(small(splits=(2, 5)))[0]
    assert supernet.space.choices[0].options == ("after 2", "after 5")
    networks = [supernet.subnet(np.array([option, *[0] * 10])) for option in (0, 1)]
    kinds = [[type(module).__name__ for module in network] for network in networks]
    assert kinds[0] == ["ToMembers", "Together", "Together", "Apart", "Apart", "Apart", "Heads"]
    assert kinds[1] == ["ToMembers", *["Together"] * 5, "Heads"]


def test_members_are_scored_each_once_and_exactly():
    """Against ensembles one by one; members that several ensembles have, or that begin alike, are run together."""
    supernet, images = small(members=3), t.training_images(96)
    train(supernet, EnsemblePaths(), images, epochs=1, batch_size=32, lr=0.05)
    rows = supernet.space.sample(15, np.random.default_rng(0))
    rows = np.concatenate([rows, rows])
    rows[15:, -1] = (rows[15:, -1] + 1) % 4  # the last layer of the last member
    fitness = InheritedFitness(supernet, images, images, batch_size=40, calibration_batch=32)
    expected = score_one_by_one(supernet, rows, images, images, batch_size=40, calibration_batch=32)
    torch.testing.assert_close(fitness.logits(rows), expected, rtol=1e-5, atol=1e-5)
    labels = torch.cat([labels for _, labels in images.batches(40, torch.device("cpu"))])
    accuracy, likelihood = fitness.both(rows)
    assert accuracy.tolist() == pytest.approx([float((logits.argmax(1) == labels).double().mean()) for logits in expected])
    assert likelihood.tolist() == pytest.approx([-float(cross_entropy(logits, labels)) for logits in expected], rel=1e-5)
    singles = supernet.singles(rows)
    assert len(singles.rows) == 15 * 3 + int((rows[15:, 0] < LAYERS).sum())
    assert singles.which.shape == (30, 3)


# The three ensembles that were published, from the configuration files of the official code (researchmm/NEAS, configs/subnets).
PUBLISHED = {
    "314M": [20, 2, 0, 0, -1, 0, 2, 0, 0, 2, -1, 0, -1, 0, 3, 2, 4, 0, 2, 5, 0, 4, 3, 0, 0],
    "472M": [16, 2, 0, 3, 2, 0, 2, 5, 0, -1, 3, 0, 2, 0, 0, 3, 5, 4, 0, 5, 0, 5, 4, 0, 3, 5, 2, 5, 0],
    "574M": [16, 2, 0, 5, 5, 1, 3, 5, 1, 3, 4, 1, 2, 5, 4, 1, 3, 3, 1, 3, 1, 5, 1, 0, 5, 4, 4, 3, 0],
}


@pytest.fixture(scope="module")
def as_published():
    stages = tuple(Stage(width, 4, stride) for width, stride in ((4, 2), (6, 2), (8, 2), (10, 1), (12, 2)))
    return ensemble((3, 32, 32), 10, layout=Layout(4, 1, stages, 16), expansions=(4, 6))


@pytest.mark.parametrize("code", PUBLISHED.values(), ids=PUBLISHED)
def test_published_ensembles_come_back(as_published, code):
    """Members in either order are one ensemble."""
    architecture = from_code(as_published, code)
    again, own = to_code(as_published, architecture), 21 - code[0]
    assert again[: -2 * own] == code[: -2 * own]
    assert sorted([again[-own:], again[-2 * own : -own]]) == sorted([code[-own:], code[-2 * own : -own]])
    assert from_code(as_published, again) == architecture
    named = as_published.space.to_names(architecture)
    assert named["split"] == f"after {code[0]}"
    assert [name for name in named.values() if name == "skip"] == ["skip"] * (
        2 * code[3 : 3 + code[0]].count(-1) + code[3 + code[0] :].count(-1)
    )


def test_a_code_of_another_space_is_refused(as_published):
    with pytest.raises(UsageError, match="expected 2 members of 20 layers"):
        from_code(as_published, PUBLISHED["472M"][:-1])
    with pytest.raises(UsageError, match="Layer 0 has no operator -1"):
        from_code(as_published, [20, 2, 0, -1, *PUBLISHED["314M"][4:]])


@pytest.mark.parametrize("seed", range(3))
def test_children_keep_what_a_moving_split_means(seed):
    """Both operators stay in the space; a layer shared no longer is the same in all members, a newly shared one is a member's."""
    supernet = small(members=3)
    rng, laid_out = np.random.default_rng(seed), supernet.laid_out
    low, up = [0] * len(supernet.space), (supernet.space.allowed_counts - 1).tolist()
    parents = supernet.space.sample(60, rng)
    with deap_random(rng):
        for parent in parents:
            (child,) = mutation(supernet, probability=0.0, split_probability=1.0)(parent.tolist(), low, up)
            before, after = (laid_out.paths(np.array([row]))[0] for row in (parent, child))
            (was,), (now,) = (laid_out.shared(np.array([row])) for row in (parent, child))
            assert abs(int(was.sum()) - int(now.sum())) <= 1
            for layer in range(LAYERS):
                if now[layer]:
                    assert len(set(after[:, layer])) == 1
                    assert after[0, layer] in before[:, layer]
                else:
                    assert after[:, layer].tolist() == before[:, layer].tolist()
        for one, other in zip(parents[::2], parents[1::2], strict=True):
            children = crossover(supernet)(one.tolist(), other.tolist())
            assert [child[0] for child in children] == [one[0], other[0]]
            assert supernet.space.contains(supernet.space.canonical(np.array(children))).all()
            offered = np.concatenate([laid_out.paths(one[None])[0], laid_out.paths(other[None])[0]])
            for child in children:
                assert all(
                    option in offered[:, layer] for path in laid_out.paths(np.array([child]))[0] for layer, option in enumerate(path)
                )


def test_operators_are_drawn_anew_once_where_they_are_shared():
    supernet = small()
    low, up = [0] * len(supernet.space), (supernet.space.allowed_counts - 1).tolist()
    parent = row_of(supernet, 3, [0] * LAYERS, [0] * LAYERS).tolist()
    with deap_random(np.random.default_rng(0)):
        children = [mutation(supernet, probability=1.0, split_probability=0.0)(parent, low, up)[0] for _ in range(200)]
    paths = supernet.laid_out.paths(np.array(children))
    assert (paths[:, 0, :3] == paths[:, 1, :3]).all()
    assert (paths[:, 0, 3:] != paths[:, 1, 3:]).any(axis=0).all()
    for layer in range(LAYERS):
        assert set(paths[:, :, layer].ravel()) == set(range(up[1 + layer] + 1))


def test_members_lose_their_operators_together():
    """In rounds around the way of ensembles: two a layer stay, the same for all members, and every split."""
    supernet = small(members=2)
    way = Shrinking(EnsemblePaths(), score="diversity+likelihood", stop_size=1, per_choice=True, least=2, whole=["split"], pool=2)
    train(supernet, way, t.training_images(160), epochs=2, batch_size=32, lr=0.05)
    allowed = supernet.space.allowed
    assert len(allowed[0]) == LAYERS + 1
    assert {len(kept) for kept in allowed[1:]} == {2}
    assert allowed[1 : 1 + LAYERS] == allowed[1 + LAYERS :]
    sampled = supernet.space.sample(100, np.random.default_rng(0))
    assert supernet.space.contains(sampled).all()


def test_diversity_is_what_predictions_say():
    """Against distributions by hand; an operator that says the same as a sibling is less different than one that says something else."""
    one, other = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.0, 0.5, 0.5])
    middle = (one + other) / 2
    entropy = lambda p: -float((p[p > 0] * p[p > 0].log()).sum())  # noqa: E731
    expected = entropy(middle) - (entropy(one) + entropy(other)) / 2
    assert float(jensen_shannon(one.clamp(min=1e-30).log(), other.clamp(min=1e-30).log())) == pytest.approx(expected, abs=1e-6)
    supernet = t._prepared(small(splits=(0,), depths=(2, 1, 1)))[0]
    images = t.training_images(64)
    with torch.no_grad():  # the 5x5 filter that does what the 3x3 does
        for member in range(2):
            options = supernet.chain[2].options_of(member)
            for (_, a), (_, b) in zip(options["mb3_k3"].named_parameters(), options["mb3_k5"].named_parameters(), strict=True):
                b.zero_()
                b[..., 1:4, 1:4].copy_(a) if a.shape != b.shape else b.copy_(a)
    fitness = InheritedFitness(supernet, images, images, calibration_batch=32)
    found = diversity_of_options(fitness, supernet.space, np.random.default_rng(0), contexts=4)
    names = supernet.space.choices[2].options
    by_name = dict(zip(names, found[2], strict=True))
    assert max(by_name["mb3_k3"], by_name["mb3_k5"]) < min(by_name["mb6_k3"], by_name["mb6_k5"])
    assert by_name["skip"] == pytest.approx(np.mean([by_name[name] for name in names if name != "skip"]))
    assert np.array_equal(found[2], found[2 + 4], equal_nan=True)
