"""Measure a device: run a few networks of a space on it, and keep their milliseconds in a device file.

About ten suffice where other devices were measured before: give their files and this one to a search with `--latency-table`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evonas.errors import UsageError
from evonas.space import Population
from predictors.costs import macs
from predictors.devices.known import FEWEST_ALONE, KnownDevices, MeasuredDevice, read_device, read_devices, write_device
from predictors.devices.runtime import Backend, command_backend, measure, time_onnx
from predictors.devices.table import spread
from predictors.devices.transfer import worth_measuring
from recipes.runner import options as o
from recipes.runner.progress import bar, say
from supernet import ChainSupernet, load
from supernet.spaces.registry import require_supernet, supernet_of

CANDIDATES = 2000


def measure_device(
    out: Annotated[str, typer.Option(help="Device file (CSV) to write, named after the device: devices/board.csv.")],
    data: o.Data = "digits",
    command: Annotated[
        str | None,
        typer.Option(help="Command that times one network: {file} is its ONNX file; it prints milliseconds last. This host without one."),
    ] = None,
    networks: Annotated[int, typer.Option(help="Networks to measure.", min=3)] = 10,
    space: Annotated[
        str,
        typer.Option(help="Search space (evonas list): mbconv (of evonas mobile), shuffle or shuffle-widths (of evonas spos), ..."),
    ] = "mbconv",
    layout: Annotated[
        str | None,
        typer.Option(
            help="Widths and depths: digits, tiny, small or mobile; of shuffle digits, tiny, cifar or imagenet. By the image size unless "
            "told otherwise."
        ),
    ] = None,
    widths: o.Widths = None,
    depths: o.Depths = None,
    squeeze_excite: o.SqueezeExcite = False,
    image_size: o.ImageSize = None,
    seed: o.Seed = 0,
) -> None:
    """Measure networks of a search space on a device, into a CSV file that `--latency-table` takes.

    Where other CSV files lie in the folder, the networks are chosen by what these devices say of them. Measured networks stay in the
    file: the same command again goes on, and a larger --networks adds to them. A device of 20 networks or more can teach others.

    Example: evonas measure --data cifar10 --command "./time_on_board.sh {file}" --out devices/board.csv
    """
    path = Path(out)
    if path.suffix != ".csv":
        raise UsageError(f"The device file {out} has no name that ends in .csv; expected one, such as devices/board.csv.")
    own = {"layout": layout, "widths": o.numbers(widths), "depths": o.numbers(depths), "squeeze_excite": squeeze_excite or None}
    require_supernet(space)
    backend: Backend = time_onnx if command is None else command_backend(command)
    images = load(data, image_size=image_size)
    given = {name: value for name, value in own.items() if value is not None}
    supernet = supernet_of(space, images.image_shape, len(images.classes), **given, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    done: dict[tuple[int, ...], float] = {}
    if path.exists():
        device = read_device(path, supernet.space)
        done = dict(zip(map(tuple, device.population.tolist()), device.milliseconds.tolist(), strict=True))
    wanted = [row for row in map(tuple, _chosen(supernet, path, networks, seed).tolist()) if row not in done]
    wanted = [wanted[i] for i in np.linspace(0, len(wanted) - 1, min(max(networks - len(done), 0), len(wanted))).round().astype(int)]
    with bar(f"measure {path.stem}") as update:
        for row in wanted:
            done[row] = measure(supernet.subnet(row), images.image_shape, backend)
            write_device(path, supernet.space, MeasuredDevice(path.stem, np.array(list(done)), np.array(list(done.values()))))
            update(len(done) / networks, f"{done[row]:.3g} ms")
    say(f"{path}: {len(done)} networks, {min(done.values()):.3g} to {max(done.values()):.3g} ms")


def _chosen(supernet: ChainSupernet, path: Path, networks: int, seed: int) -> Population:
    """Spread over the MACs of the space; or, where a device is known, over what known devices say."""
    space = supernet.space
    known = read_devices(path.parent, space, but=path.stem)
    if all(len(device.population) < FEWEST_ALONE for device in known):
        return spread(space, macs(space, supernet.parts()), networks, seed)
    candidates = np.unique(space.sample(CANDIDATES, np.random.default_rng([seed, 4])), axis=0)
    return candidates[worth_measuring(KnownDevices(space, known).fit().transform(candidates), networks)]
