"""Random crops, flips and rotations as index arithmetic on a whole batch.

Every augmentation moves pixels and makes none up, so each is a table of source positions: for
output pixel (y, x) of image i, which pixel of image i stands there. One gather per batch applies
it.
"""

import math

import torch
from torch import Tensor

from foundation.errors import DataError

from .agreement import AUGMENTATIONS

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
