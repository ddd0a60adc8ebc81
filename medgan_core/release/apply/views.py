"""At which scale a network sees an image: as it did in training, tile by tile where the image is larger.

A network that was trained on whole images knows where in the body it is, and sees whole images: squashed to
its own size, or with their proportions where it was trained on volumes. One that undoes damage looks at what
lies near a pixel, and sees tiles of the image at its own resolution. One that was trained at a spacing in mm
sees tiles at that spacing.
"""

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from medgan_core.data.volumes import square

Network = Callable[[Tensor], Tensor]
View = Literal["whole", "proportions", "spacing", "tiles"]
_AT_ONCE = 16
_OVERLAP = 0.5


def view_of(task: str, kind: str, spacing: float) -> View:
    """How a release of this task sees images, by the kind of file and the spacing of its study."""
    if task == "restoration":
        return "tiles"
    if kind == "nifti":
        return "proportions"
    return "spacing" if spacing else "whole"


def seen_whole(network: Network, images: Tensor, side: int) -> Tensor:
    """Outputs [n, k, h, w] of images [n, i, h, w], which are squashed to `side` as in training."""
    size = (images.shape[2], images.shape[3])
    return _resized(_batches(network, _resized(images, (side, side))), size)


def with_holes(network: Network, images: Tensor, holes: Tensor, side: int) -> Tensor:
    """Outputs [n, k, h, w] of images [n, c, h, w] whose `holes` [n, h, w] are filled in.

    In training a hole is a quarter of the image at most. Larger ones than a quarter of a tile are filled in
    the whole image, squashed to `side`: within a tile nothing would be left to fill them from.
    """
    if not _larger_than(holes, side // 4):
        return seen_in_tiles(network, _spoiled(images, holes), side)
    small = interpolate(holes[:, None].float(), size=(side, side), mode="area")[:, 0] > 0
    size = (images.shape[2], images.shape[3])
    return _resized(_batches(network, _spoiled(_resized(images, (side, side)), small)), size)


def _spoiled(images: Tensor, holes: Tensor) -> Tensor:
    """What a network takes: images that are 0 in the holes, and where these are."""
    return torch.cat([images * ~holes[:, None], holes[:, None].float()], dim=1)


def _larger_than(holes: Tensor, length: int) -> bool:
    """Whether a square of more than `length` pixels a side fits into a hole."""
    window = min(length + 1, *holes.shape[1:])
    return bool((max_pool2d((~holes).float(), window, 1) == 0).any())


def seen_in_proportion(
    network: Network, images: Tensor, side: int, spacing: tuple[float, float] | None
) -> Tensor:
    """As `seen_whole`, but the longer side fills the network's square and the rest of it is black."""
    size, millimetres = (images.shape[2], images.shape[3]), spacing or (1.0, 1.0)
    channels = [square(images[:, i], millimetres, side) for i in range(images.shape[1])]
    made = _batches(network, torch.stack(channels, dim=1))
    lengths = [n * mm for n, mm in zip(size, millimetres, strict=True)]
    rows, columns = (max(1, round(side * length / max(lengths))) for length in lengths)
    top, left = (side - rows) // 2, (side - columns) // 2
    return _resized(made[:, :, top : top + rows, left : left + columns], size)


def seen_at_spacing(
    network: Network, images: Tensor, side: int, spacing: tuple[float, float], wanted: float
) -> Tensor:
    """Outputs [n, k, h, w] of tiles at `wanted` mm of a pixel; `spacing` is the images' own."""
    size = (images.shape[2], images.shape[3])
    rows, columns = (max(1, round(n * mm / wanted)) for n, mm in zip(size, spacing, strict=True))
    return _resized(seen_in_tiles(network, _resized(images, (rows, columns)), side), size)


def seen_in_tiles(network: Network, images: Tensor, side: int) -> Tensor:
    """Outputs [n, k, h, w] of tiles of `side` pixels, half of which lies over the neighbours; they blend."""
    from monai.inferers.utils import sliding_window_inference

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MONAI's own indexing
        made = [
            sliding_window_inference(
                image[None],
                (side, side),
                _AT_ONCE,
                network,
                overlap=_OVERLAP,
                mode="gaussian",
                padding_mode="replicate",
            )
            for image in images
        ]
    return torch.cat([part if isinstance(part, Tensor) else torch.as_tensor(part) for part in made])


def _batches(network: Network, images: Tensor) -> Tensor:
    return torch.cat([network(part) for part in images.split(_AT_ONCE)])


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """By the mean of each area when shrinking, bilinear when growing: as `data.transforms` does."""
    now = (images.shape[2], images.shape[3])
    if size == now:
        return images
    if all(new <= old for new, old in zip(size, now, strict=True)):
        return interpolate(images, size=size, mode="area")
    return interpolate(images, size=size, mode="bilinear", align_corners=False)
