"""Measure a device: run a few networks of a space on it, and keep their milliseconds in a device file.

About ten suffice: give the file to a search with `--latency-table`. Devices that were measured before, in the same folder, help; where
there are none, this host does.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evonas.errors import UsageError, first_line
from evonas.files import written_whole
from evonas.space import Architecture, Population, SearchSpace
from predictors.costs import macs
from predictors.devices import runtime
from predictors.devices.android import android
from predictors.devices.known import FEWEST_ALONE, MILLISECONDS, KnownDevices, MeasuredDevice, read_device, read_devices, write_device
from predictors.devices.runtime import Backend, command_backend, measure, time_onnx
from predictors.devices.runtimes import RUNTIMES, Runtime
from predictors.devices.table import spread
from predictors.devices.transfer import worth_measuring
from recipes.runner import options as o
from recipes.runner.progress import bar, say
from supernet import ChainSupernet, load
from supernet.spaces.registry import require_supernet, supernet_of

CANDIDATES = 2000
SHEET, FILE, MORE = "networks.csv", "file", "more"


def measure_device(
    out: Annotated[str, typer.Option(help="Device file (CSV) to write, named after the device: devices/board.csv.")],
    data: o.Data = "digits",
    command: Annotated[
        str | None,
        typer.Option(help="Command that times one network: {file} is its ONNX file; it prints milliseconds last. This host without one."),
    ] = None,
    android_runner: Annotated[
        str | None,
        typer.Option("--android", help="Measure on a phone over adb: path of the onnxruntime_perf_test that was built for it."),
    ] = None,
    runtime_name: Annotated[
        str | None,
        typer.Option("--runtime", help="Measure on this host by another runtime: onnxruntime, executorch or litert (evonas list)."),
    ] = None,
    export: Annotated[
        str | None, typer.Option(help=f"Measure nothing: write the networks into this folder, with a {SHEET} to fill in by hand.")
    ] = None,
    import_from: Annotated[
        str | None, typer.Option("--import", help=f"Measure nothing: take the milliseconds of a {SHEET} that was filled in.")
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

    Ten are enough: what they do not say, other CSV files in the folder do (devices that were measured before), or this host.
    Where there are such files, the networks are chosen by what these devices say of them. Measured networks stay in the
    file: the same command again goes on, and a larger --networks adds to them. A device of 20 networks or more can teach others.

    Where nothing can be run from here: --export DIR (with --runtime executorch or litert as files for those), fill in the CSV file,
    --import it.

    Example: evonas measure --data cifar10 --command "./time_on_board.sh {file}" --out devices/board.csv
    """
    path = Path(out)
    if path.suffix != ".csv":
        raise UsageError(f"The device file {out} has no name that ends in .csv; expected one, such as devices/board.csv.")
    own = {"layout": layout, "widths": o.numbers(widths), "depths": o.numbers(depths), "squeeze_excite": squeeze_excite or None}
    require_supernet(space)
    ways = [way for way in (command, android_runner, import_from, export or runtime_name) if way is not None]  # --export takes a runtime
    if len(ways) > 1:
        raise UsageError("Got more than one of --command, --android, --runtime, --export and --import; expected one way to measure.")
    backend: Backend = time_onnx if command is None else command_backend(command)
    backend = backend if android_runner is None else android(android_runner)
    runs = RUNTIMES.pick(runtime_name or "onnxruntime").make()
    backend = backend if runtime_name is None else runs
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
    if export is not None:
        if (Path(export) / SHEET).exists():
            raise UsageError(f"{Path(export) / SHEET} is there already; expected another folder. --import takes what was filled in.")
        if not wanted:
            raise UsageError(f"{out} has {len(done)} networks already; expected a larger --networks.")
        _write_sheet(Path(export), supernet, wanted, runs)
        say(
            f"{export}: {len(wanted)} networks; fill in {MILLISECONDS} in {SHEET}, then: evonas measure --import {Path(export) / SHEET} ..."
        )
        return
    if import_from is not None:
        device = _read_sheet(Path(import_from), supernet.space)
        done |= zip(map(tuple, device.population.tolist()), device.milliseconds.tolist(), strict=True)
        write_device(path, supernet.space, MeasuredDevice(path.stem, np.array(list(done)), np.array(list(done.values()))))
        wanted = []
    with bar(f"measure {path.stem}") as update:
        for row in wanted:
            done[row] = measure(supernet.subnet(row), images.image_shape, backend)
            write_device(path, supernet.space, MeasuredDevice(path.stem, np.array(list(done)), np.array(list(done.values()))))
            update(len(done) / networks, f"{done[row]:.3g} ms")
    say(f"{path}: {len(done)} networks, {min(done.values()):.3g} to {max(done.values()):.3g} ms")


def _write_sheet(folder: Path, supernet: ChainSupernet, rows: Sequence[Architecture], runs: Runtime) -> None:
    """The networks as files of a runtime, and a table with a line for each."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"network{i:02}{runs.suffix}" for i in range(len(rows))]
    for row, name in zip(rows, names, strict=True):
        write = runtime.export if runs.suffix == ".onnx" else runs.write
        write(supernet.subnet(row), supernet.image_shape, folder / name)
    with written_whole(folder / SHEET) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([FILE, *supernet.space.names, MILLISECONDS])
        writer.writerows([name, *supernet.space.to_names(row).values(), ""] for row, name in zip(rows, names, strict=True))


def _read_sheet(path: Path, space: SearchSpace) -> MeasuredDevice:
    """What was filled in; lines without milliseconds are left out.

    Raises:
        UsageError: the file cannot be read, or holds no milliseconds or something else.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [{name: cell for name, cell in line.items() if name != FILE} for line in csv.DictReader(file, restkey=MORE)]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"Cannot read {path}: {first_line(error)}. Expected the {SHEET} that --export wrote, filled in.") from None
    if (longer := next((i for i, line in enumerate(lines) if MORE in line), None)) is not None:
        raise UsageError(f"{path}, line {longer + 2}: more cells than columns. Write decimals with a point.")
    filled = [line for line in lines if (line.get(MILLISECONDS) or "").strip()]
    if not filled:
        raise UsageError(f"{path} holds no {MILLISECONDS}; expected the {SHEET} that --export wrote, filled in.")
    if len(filled) < len(lines):
        say(f"{path}: {len(lines) - len(filled)} of {len(lines)} networks have no {MILLISECONDS} yet; they are left out")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        with plain.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(filled[0]), extrasaction="ignore")
            writer.writeheader()
            for line in lines:  # those that are left out stay as empty lines: errors are told by their number
                if line in filled:
                    writer.writerow(line)
                else:
                    file.write("\n")
        try:
            return read_device(plain, space)
        except UsageError as error:
            raise UsageError(str(error).replace(str(plain), str(path))) from None


def _chosen(supernet: ChainSupernet, path: Path, networks: int, seed: int) -> Population:
    """Spread over the MACs of the space; or, where a device is known, over what known devices say."""
    space = supernet.space
    known = read_devices(path.parent, space, but=path.stem)
    if all(len(device.population) < FEWEST_ALONE for device in known):
        return spread(space, macs(space, supernet.parts()), networks, seed)
    candidates = np.unique(space.sample(CANDIDATES, np.random.default_rng([seed, 4])), axis=0)
    return candidates[worth_measuring(KnownDevices(space, known).fit().transform(candidates), networks)]
