"""From decoded pixels to what networks see, and the variation that training adds: MONAI transforms.

Intensities are scaled by public constants alone, never by statistics of the set.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan_core.config import DataConfig
from medgan_core.errors import DataError

SMALLEST = 8
_CHUNK = 512
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's conversion to grey

ValueRange = tuple[float, float]
Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def preparation(data: DataConfig, value_range: ValueRange, size: tuple[int, int]) -> Any:
    """The MONAI `Compose` for images [c, h, w] of `size` (h, w) with values in `value_range`.

    Squashes to a square of `data.image_size` (area when shrinking, bilinear when growing; nothing when the
    size is right) and scales to [-1, 1]. Every channel is treated alike, so a batch may come as channels.
    """
    transforms = _monai()
    steps = []
    side = data.image_size
    if size != (side, side):
        shrinking = min(size) >= side
        # MONAI's own anti-aliasing blurs before "area", which averages already
        mode: dict[str, Any] = {"mode": "area"} if shrinking else {"mode": "bilinear", "align_corners": False}
        steps.append(transforms.Resize((side, side), **mode))
    low, high = value_range
    steps.append(transforms.ScaleIntensityRange(low, high, -1.0, 1.0, clip=True))
    return transforms.Compose(steps)


def prepare(images: NDArray[Any], data: DataConfig, value_range: ValueRange) -> Tensor:
    """Images of one size [n, h, w] or [n, h, w, c], as one array: float32 [n, channels, s, s] in [-1, 1]."""
    if min(images.shape[1:3]) < SMALLEST:
        height, width = images.shape[1:3]
        raise DataError(f"images of {height}×{width} pixels; expected at least {SMALLEST}×{SMALLEST}")
    compose = preparation(data, value_range, (images.shape[1], images.shape[2]))
    side = data.image_size
    prepared = torch.empty(len(images), data.channels, side, side)
    for start in range(0, len(images), _CHUNK):
        chunk = _with_channels(images[start : start + _CHUNK], data.channels)
        flat = compose(torch.from_numpy(chunk.reshape(-1, *chunk.shape[2:])))
        prepared[start : start + _CHUNK] = _plain(flat).reshape(-1, data.channels, side, side)
    return prepared


def prepare_each(
    images: Iterable[NDArray[Any]], count: int, data: DataConfig, value_range: ValueRange
) -> Tensor:
    """`count` images [h, w] or [h, w, c] of whatever sizes, taken in chunks: as `prepare`."""
    prepared = torch.empty(count, data.channels, data.image_size, data.image_size)
    stream = iter(images)
    for start in range(0, count, _CHUNK):
        chunk = list(islice(stream, _CHUNK))
        for shape in dict.fromkeys(image.shape for image in chunk):
            alike = [i for i, image in enumerate(chunk) if image.shape == shape]
            prepared[[start + i for i in alike]] = prepare(
                np.stack([chunk[i] for i in alike]), data, value_range
            )
    return prepared


def at_spacing(image: NDArray[np.float32], spacing: tuple[float, float], data: DataConfig) -> NDArray[Any]:
    """An image [h, w] or [h, w, c] with pixels of `spacing` mm (rows, columns), in pixels of `data.spacing`.

    The result has `data.image_size` a side, cropped or padded with 0 around the middle.
    """
    transforms, side = _monai(), data.image_size
    for axis, mm in enumerate(spacing):  # what lies outside of the result is not resampled at all
        margin = max(0, image.shape[axis] - math.ceil(side * data.spacing / mm) - 2) // 2
        image = image.take(range(margin, image.shape[axis] - margin), axis=axis)
    size = [max(1, round(n * mm / data.spacing)) for n, mm in zip(image.shape[:2], spacing, strict=True)]
    shrinking = all(new <= old for new, old in zip(size, image.shape[:2], strict=True))
    mode: dict[str, Any] = {"mode": "area"} if shrinking else {"mode": "bilinear", "align_corners": False}
    steps = (transforms.Resize(size, **mode), transforms.ResizeWithPadOrCrop((side, side)))
    channels = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    fitted = _plain(transforms.Compose(steps)(torch.from_numpy(np.array(channels)))).numpy()
    return fitted[0] if image.ndim == 2 else fitted.transpose(1, 2, 0)


def augmentation(data: DataConfig) -> Augmentation | None:
    """What varies training images [n, c, s, s] in [-1, 1], each on its own, or None where nothing is asked.

    The shape stays, all channels move alike, and a mask stays one of -1 and 1. All randomness comes from the
    generator that the caller gives.
    """
    transforms = _monai()
    steps = []
    if data.flip:
        steps.append(transforms.RandFlip(prob=0.5, spatial_axis=1))
    if data.rotate_degrees:
        angle = math.radians(data.rotate_degrees)
        steps.append(transforms.RandRotate(range_x=angle, prob=1.0, keep_size=True, padding_mode="border"))
    if data.crop_pixels:
        steps.append(transforms.BorderPad(data.crop_pixels, mode="edge"))
        steps.append(transforms.RandSpatialCrop((data.image_size, data.image_size), random_size=False))
    if not steps:
        return None
    compose = transforms.Compose(steps)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        compose.set_random_state(seed=int(torch.randint(2**31, (), generator=generator)))
        varied = torch.stack([_plain(compose(image)) for image in images])
        if data.masks:  # a rotation interpolates
            varied[:, -1] = torch.where(varied[:, -1] > 0, 1.0, -1.0)
        return varied

    return augment


def _plain(image: Any) -> Tensor:
    """MONAI's MetaTensor as the tensor that it wraps."""
    tensor: Tensor = image.as_tensor() if hasattr(image, "as_tensor") else image
    return tensor


def _with_channels(images: NDArray[Any], channels: int) -> NDArray[np.float32]:
    """[n, h, w] or [n, h, w, 1 or 3] to float32 [n, channels, h, w]."""
    pixels = images.astype(np.float32)
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3:
        return np.ascontiguousarray(np.repeat(pixels[:, None], channels, axis=1))
    if channels == 1:
        pixels = (pixels @ np.asarray(_LUMA, dtype=np.float32))[..., None]
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _monai() -> ModuleType:
    # imported when first used: it takes seconds, and what it warns of is not ours to mend
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import monai.transforms as transforms
    module: ModuleType = transforms
    return module
