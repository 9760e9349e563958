"""Parts of a data set: small ones live as tensors on the device and are augmented there, folders go through a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from evonas.errors import UsageError

Batch = tuple[Tensor, Tensor]
Share = tuple[int, int]

ALL: Share = (0, 1)


class Part(Protocol):
    """One part of a data set. Batches are (images (n, c, h, w) float32 normalised, labels (n,) int64) on `device`."""

    def __len__(self) -> int: ...

    def epoch(self, batch_size: int, seed: tuple[int, ...], device: torch.device, share: Share = ALL) -> Iterator[Batch]:
        """Shuffled and augmented, as `seed` says; the last incomplete batch is left out.

        Of every batch, the share (k, n) is images k, k + n, k + 2n, ...
        """

    def batches(self, batch_size: int, device: torch.device) -> Iterator[Batch]:
        """In a fixed order and without augmentation, complete."""

    def head(self, n: int) -> TensorPart:
        """The first n images, held in memory."""

    def rows_of(self, rows: np.ndarray) -> Part:
        """Some of the images, by their positions."""


@dataclass(frozen=True)
class TensorPart:
    """Images held as one tensor.

    Attributes:
        images: (n, c, h, w), uint8 or float32.
        labels: (n,) int64.
        mean, scale: per channel, in the images' own units; batches are (images - mean) / scale.
        padding: augmentation shifts by up to this many pixels (zeros come in).
        flip: augmentation mirrors half of the images.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    scale: Tensor
    padding: int = 0
    flip: bool = False

    def __repr__(self) -> str:
        return f"TensorPart({len(self):,} images of {'x'.join(map(str, self.images.shape[1:]))}, {self.images.dtype})"

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(self, batch_size: int, seed: tuple[int, ...], device: torch.device, share: Share = ALL) -> Iterator[Batch]:
        """See `Part.epoch`. Images and shuffling stay on the device."""
        generator = torch.Generator(device=device).manual_seed(int(np.random.default_rng(seed).integers(1 << 62)))
        part = self._on(device)
        order = torch.randperm(len(self), generator=generator, device=device)
        size = min(batch_size, len(self))
        for i in range(0, len(self) - size + 1, size):
            rows = order[i : i + size]
            mine = slice(share[0], None, share[1])
            yield part._normalised(part._augmented(part.images[rows], generator)[mine]), part.labels[rows][mine]

    def batches(self, batch_size: int, device: torch.device) -> Iterator[Batch]:
        """See `Part.batches`."""
        part = self._on(device)
        for i in range(0, len(self), batch_size):
            yield part._normalised(part.images[i : i + batch_size]), part.labels[i : i + batch_size]

    def head(self, n: int) -> TensorPart:
        """The first n images."""
        return replace(self, images=self.images[:n], labels=self.labels[:n])

    def rows_of(self, rows: np.ndarray) -> TensorPart:
        """See `Part.rows_of`."""
        positions = torch.from_numpy(np.asarray(rows))
        return replace(self, images=self.images[positions], labels=self.labels[positions])

    def _on(self, device: torch.device) -> TensorPart:
        if self.images.device == device or device.type == "cpu":
            return self
        return self._copies.setdefault(
            str(device), replace(self, **{n: getattr(self, n).to(device) for n in ("images", "labels", "mean", "scale")})
        )

    @cached_property
    def _copies(self) -> dict[str, TensorPart]:
        return {}

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images.float() - self.mean[:, None, None]) / self.scale[:, None, None]).contiguous(memory_format=torch.channels_last)

    def _augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        device = images.device
        if self.padding:
            images = torch.nn.functional.pad(images, [self.padding] * 4)
            top, left = (torch.randint(2 * self.padding + 1, (n, 1), generator=generator, device=device) for _ in range(2))
            rows, columns = top + torch.arange(height, device=device), left + torch.arange(width, device=device)
            images = images[torch.arange(n, device=device)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        if self.flip:
            mirrored = torch.rand(n, generator=generator, device=device) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return images


@dataclass(frozen=True)
class FolderPart:
    """Images that are decoded from files when they are needed.

    Attributes:
        augmented, plain: data sets over the same files, giving (uint8 tensor (3, s, s), label).
        rows: positions of this part in them.
        mean, scale: as in `TensorPart`.
        workers: processes that decode.
    """

    augmented: Any
    plain: Any
    rows: np.ndarray
    mean: Tensor
    scale: Tensor
    workers: int

    def __repr__(self) -> str:
        return f"FolderPart({len(self):,} images in files)"

    def __len__(self) -> int:
        return len(self.rows)

    def epoch(self, batch_size: int, seed: tuple[int, ...], device: torch.device, share: Share = ALL) -> Iterator[Batch]:
        """See `Part.epoch`. Only the images of the share are decoded; their augmentation depends on it."""
        (mine, shares), size = share, min(batch_size, len(self))
        generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(1 << 62)))
        order = torch.randperm(len(self), generator=generator)[: len(self) // size * size]
        generator.manual_seed(generator.initial_seed() + mine)
        decoded = self._decoded(self.augmented, order.view(-1, size)[:, mine::shares].flatten(), size // shares, generator=generator)
        return self._normalised(decoded, device)

    def batches(self, batch_size: int, device: torch.device) -> Iterator[Batch]:
        """See `Part.batches`."""
        return self._normalised(self._decoded(self.plain, torch.arange(len(self)), batch_size), device)

    def head(self, n: int) -> TensorPart:
        """The first n images, decoded once."""
        images, labels = zip(*self._decoded(self.plain, torch.arange(min(n, len(self))), 64), strict=True)
        return TensorPart(torch.cat(images), torch.cat(labels), self.mean, self.scale)

    def rows_of(self, rows: np.ndarray) -> FolderPart:
        """See `Part.rows_of`."""
        return replace(self, rows=self.rows[rows])

    def _decoded(self, dataset: Any, order: Tensor, batch_size: int, **options: Any) -> Iterator[Batch]:
        """Batches (uint8 images, labels) of the images in this order."""
        subset = torch.utils.data.Subset(dataset, self.rows[order.numpy()].tolist())
        pin = torch.cuda.is_available()
        try:
            yield from torch.utils.data.DataLoader(subset, batch_size, num_workers=self.workers, pin_memory=pin, **options)
        except UsageError as error:  # a worker's error arrives wrapped in its traceback
            raise UsageError(str(error).strip().splitlines()[-1].removeprefix("evonas.errors.UsageError: ")) from None

    def _normalised(self, batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
        mean, scale = self.mean.to(device)[:, None, None], self.scale.to(device)[:, None, None]
        for images, labels in batches:
            images = (images.to(device, non_blocking=True).float() - mean) / scale
            yield images.contiguous(memory_format=torch.channels_last), labels.to(device, non_blocking=True)


@dataclass(frozen=True)
class ImageData:
    """A data set, ready to use.

    Attributes:
        name: as the user wrote it.
        train, search, test: the three parts.
        classes: names, in order of the labels.
        image_shape: (channels, height, width).
    """

    name: str
    train: Part
    search: Part
    test: Part
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]

    def __repr__(self) -> str:
        parts = f"{len(self.train):,} train, {len(self.search):,} search and {len(self.test):,} test images"
        return f"ImageData({self.name}: {parts} of {'x'.join(map(str, self.image_shape))}, {len(self.classes)} classes)"
