"""Batches of a client's images, held on the training device as bytes.

A client's data is put on its device once as uint8, and every epoch is a permutation, a gather and
one multiply-add per batch: no worker processes, no per-image Python, no copies from the host (the
design of K. Jordan's airbench). Crops, flips and rotations move pixels and make none up, so each is
a table of source positions, which one gather per batch applies.
"""

import copy
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foundation.errors import DataError
from foundation.seeds import sent

from .agreement import AUGMENTATIONS
from .images import ImageData, Normalization
from .noise import STEADY_NOISE, add_noise

# Pixels of padding on each side that a random crop may reach into, and the largest rotation.
CROP_PADDING = 4
MAX_ROTATION_DEGREES = 15.0


def require_room(augmentation: str, image_size: tuple[int, int]) -> None:
    """Refuse an unknown augmentation, or one that images of (height, width) are too small for."""
    if augmentation not in AUGMENTATIONS:
        raise DataError(
            f"unknown augmentation '{augmentation}': choose one of {', '.join(AUGMENTATIONS)}"
        )
    if augmentation != "none" and min(image_size) <= CROP_PADDING:
        raise DataError(
            f"augmentation = '{augmentation}' moves images by {CROP_PADDING} pixels and needs "
            f"larger ones than {image_size[0]}x{image_size[1]}: take 'none', or an image-size of "
            f"more than {CROP_PADDING}"
        )


def random_moves(samples: int, *, rotate: bool, generator: torch.Generator) -> Tensor:
    """Draw a shift, a flip and an angle for each of n images: float32 (n, 4).

    These are vertical and horizontal shift in pixels (whole, within +-`CROP_PADDING`), flip (0 or
    1) and angle in radians (within +-`MAX_ROTATION_DEGREES`; 0 without `rotate`). The generator is
    on the CPU, so that every device sees the same moves.
    """
    moves = torch.zeros(samples, 4)
    moves[:, :2] = torch.randint(
        -CROP_PADDING, CROP_PADDING + 1, (samples, 2), generator=generator
    ).float()
    moves[:, 2] = torch.randint(0, 2, (samples,), generator=generator).float()
    if rotate:
        largest = math.radians(MAX_ROTATION_DEGREES)
        moves[:, 3] = (torch.rand(samples, generator=generator) * 2 - 1) * largest
    return moves


def crop_flip_positions(moves: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of shifted, flipped images comes from; beyond an edge, images are mirrored.

    A random crop from the image padded by reflection, then a horizontal flip (NIID-Bench's recipe
    for CIFAR-10). Positions, int64 (n, height, width), are those in the flattened image.
    """
    rows = torch.arange(height, device=moves.device) + moves[:, :1].long()
    straight = torch.arange(width, device=moves.device)
    columns = torch.where(moves[:, 2:3] > 0, width - 1 - straight, straight) + moves[:, 1:2].long()
    rows, columns = _mirror(rows, height), _mirror(columns, width)
    return rows.unsqueeze(2) * width + columns.unsqueeze(1)


def crop_flip_rotate_positions(moves: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where each pixel of shifted, flipped, rotated images comes from; beyond an edge is black.

    Crop (padded with black), flip, then rotation about the centre with the nearest pixel, as the
    original does for CIFAR-100. Composed into one move, a pixel that the crop alone would have cut
    off can turn back in. Returns positions in the flattened image, int64 (n, height, width), and
    bool of the same shape: False where one lies outside.
    """
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y = torch.arange(height, device=moves.device, dtype=torch.float32).sub_(centre_y).view(1, -1, 1)
    x = torch.arange(width, device=moves.device, dtype=torch.float32).sub_(centre_x).view(1, 1, -1)
    shift_y, shift_x, flip, angle = (column.view(-1, 1, 1) for column in moves.unbind(1))
    cosine, sine = torch.cos(angle), torch.sin(angle)
    side = 1 - 2 * flip
    rows = torch.round(y * cosine + x * sine + (centre_y + shift_y)).long()
    columns = torch.round((x * cosine - y * sine) * side + (centre_x + shift_x)).long()
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return rows.clamp_(0, height - 1) * width + columns.clamp_(0, width - 1), inside


def _mirror(index: Tensor, size: int) -> Tensor:
    return (size - 1) - ((size - 1) - index.abs()).abs()


Batch = tuple[Tensor, Tensor]


def steps_per_epoch(samples: int, batch_size: int, *, drop_singleton: bool) -> int:
    """Return the number of batches in one pass over a client's images; the last may be smaller.

    A last batch of a single image is left out with `drop_singleton`: BatchNorm cannot train on it.
    """
    full, rest = divmod(samples, batch_size)
    return full + (rest > (1 if drop_singleton else 0))


class Batches:
    """Shuffled, augmented, normalised batches of one client's images, made on a device.

    `channels_last` chooses the memory format alone. All random numbers are drawn on the CPU, so the
    same seed gives the same batches on every device. A single image with `drop_singleton`, and
    images too small for the augmentation, are a DataError.
    """

    def __init__(
        self,
        data: ImageData,
        *,
        normalization: Normalization,
        batch_size: int,
        augmentation: str = "none",
        device: str | torch.device = "cpu",
        drop_singleton: bool = True,
        channels_last: bool = False,
    ) -> None:
        require_room(augmentation, data.image_size)
        if len(data) == 1 and drop_singleton:
            raise DataError(
                "there is a single image, and BatchNorm cannot train on one: give this client "
                "more, or take a model without BatchNorm, such as cnn"
            )
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.feature_noise = data.feature_noise
        self.device = torch.device(device)
        self.drop_singleton = drop_singleton
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._features: Tensor | None = None
        #: Number of images, n.
        self.samples: int
        self.samples, self._channels, self._height, self._width = data.images.shape
        self._pixels = _pack(data.images).to(self.device)
        #: Labels on the device, int64 (n,), in the order of the images.
        self.labels = torch.from_numpy(np.array(data.labels)).to(self.device)
        shape = (1, -1, 1)
        mean = torch.tensor(normalization.mean, device=self.device).view(shape)
        std = torch.tensor(normalization.std, device=self.device).view(shape)
        # (byte / 255 - mean) / std as one multiply-add.
        self._scale, self._shift = 1 / (255 * std), -mean / std
        self._std = normalization.std
        self._byte_offsets = torch.arange(0, 24, 8, device=self.device, dtype=torch.int32).view(
            shape
        )

    @property
    def steps_per_epoch(self) -> int:
        """Batches that `epoch` gives."""
        return steps_per_epoch(self.samples, self.batch_size, drop_singleton=self.drop_singleton)

    @property
    def steady(self) -> bool:
        """Whether an image is the same in every epoch: neither augmented nor with noise."""
        return self.augmentation == "none" and self.feature_noise is None

    def given(self, features: Tensor) -> "Batches":
        """Return the same batches with a row of features, (n, d), in the place of each image.

        They come in the images' order; `epoch` takes them where the images are `steady`.
        """
        batches = copy.copy(self)
        batches._features = features
        return batches

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Go through all images once, in random order, augmented and with noise.

        Yields normalised float32 images (b, C, H, W) and int64 labels (b,), on the device. The
        state of the generator (on the CPU) afterwards depends on the data's size and the options
        alone.
        """
        order = torch.randperm(self.samples, generator=generator)
        moves = None
        if self.augmentation != "none":
            rotate = self.augmentation == "crop-flip-rotate"
            drawn = random_moves(self.samples, rotate=rotate, generator=generator)
            moves = sent(drawn, self.device)
        order = sent(order, self.device)
        for step in range(self.steps_per_epoch):
            rows = slice(step * self.batch_size, (step + 1) * self.batch_size)
            chosen = order[rows]
            if self._features is not None and self.steady:
                yield self._features.index_select(0, chosen), self.labels[chosen]
                continue
            pixels = (
                self._pixels.index_select(0, chosen)
                if moves is None
                else self._augmented(chosen, moves[rows])
            )
            yield self._images(pixels, generator), self.labels[chosen]

    def ordered(self) -> Iterator[Batch]:
        """Go through every image once, in order, not augmented, its noise always the same."""
        generator = torch.Generator().manual_seed(STEADY_NOISE)
        for start in range(0, self.samples, self.batch_size):
            rows = slice(start, start + self.batch_size)
            if self._features is not None:
                yield self._features[rows], self.labels[rows]
                continue
            yield self._images(self._pixels[rows], generator), self.labels[rows]

    def _augmented(self, chosen: Tensor, moves: Tensor) -> Tensor:
        area = self._height * self._width
        if self.augmentation == "crop-flip":
            positions, inside = crop_flip_positions(moves, self._height, self._width), None
        else:
            positions, inside = crop_flip_rotate_positions(moves, self._height, self._width)
        positions = positions.view(-1, area) + chosen.view(-1, 1) * area
        pixels = self._pixels.view(-1).index_select(0, positions.view(-1)).view(-1, area)
        # A packed pixel of 0 is black in every channel.
        return pixels if inside is None else pixels * inside.view(-1, area)

    def _images(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Unpack (b, H * W) pixels to normalised float32 (b, C, H, W), with noise."""
        channels = pixels.unsqueeze(1)
        if self._channels == 3:
            channels = (channels >> self._byte_offsets) & 255
        values = channels.float().mul_(self._scale).add_(self._shift)
        shaped = values.view(len(values), self._channels, self._height, self._width)
        images = shaped.contiguous(memory_format=self._memory_format)
        if self.feature_noise is not None:
            add_noise(images, self.feature_noise, self._std, generator)
        return images


def as_seen(data: ImageData, normalization: Normalization) -> Tensor:
    """Return images as a network sees them, float32 (n, C, H, W), their noise always the same."""
    images = normalization.apply(torch.tensor(data.images))
    if data.feature_noise is not None:
        generator = torch.Generator().manual_seed(STEADY_NOISE)
        add_noise(images, data.feature_noise, normalization.std, generator)
    return images


def _pack(images: npt.NDArray[np.uint8]) -> Tensor:
    """Put the three bytes of an RGB pixel into one int32: (n, C, H, W) uint8 to (n, H * W).

    A gather moves elements: 50,000 32x32 images take 0.16 s instead of 0.42 s on one core, at a
    third more memory. Grey images stay uint8.
    """
    planes = images.reshape(len(images), images.shape[1], -1)
    if planes.shape[1] == 1:
        return torch.from_numpy(np.array(planes[:, 0]))
    packed = planes[:, 0].astype(np.int32)
    for channel in (1, 2):
        packed |= planes[:, channel].astype(np.int32) << (8 * channel)
    return torch.from_numpy(packed)
