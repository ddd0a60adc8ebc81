"""Classical restoration, by scikit-image: what is known of the corruption is given to each method.

Every method takes images of values in [0, 1], one at a time, with the code that the generator is given, so it
knows how strong the noise or how wide the blur is. What else it may choose is chosen by the mean PSNR on
training patients, apart for weak, middling and strong corruption.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan_core.gan.corruptions import BLUR, kernel
from medgan_core.gan.scores import psnr

_LEVELS = 3
Image = NDArray[np.float64]
Method = Callable[..., Image]
"""From an image [h, w], its code [h, w] and keyword settings to an image."""


def median(image: Image, code: Image, *, radius: int) -> Image:
    """The median filter over a disk."""
    from skimage.filters import median as filtered
    from skimage.morphology import disk

    return np.asarray(filtered(image, disk(radius), mode="reflect"))


def total_variation(image: Image, code: Image, *, weight: float) -> Image:
    """Total variation (Chambolle 2004); its weight is a multiple of the noise's standard deviation."""
    from skimage.restoration import denoise_tv_chambolle

    return np.asarray(denoise_tv_chambolle(image, weight=weight * float(code[0, 0]), max_num_iter=100))


def wiener(image: Image, code: Image, *, balance: float) -> Image:
    """Wiener's filter with the known blur; edges are mirrored so that they do not ring."""
    from skimage.restoration import wiener as filtered

    return _deblurred(image, code, lambda wide, psf: filtered(wide, psf, balance, clip=False))


def richardson_lucy(image: Image, code: Image, *, num_iter: int) -> Image:
    """Richardson and Lucy's iterations with the known blur; edges are mirrored."""
    from skimage.restoration import richardson_lucy as iterated

    return _deblurred(
        image,
        code,
        lambda wide, psf: iterated(wide.clip(0, 1), psf, num_iter, clip=False, filter_epsilon=1e-6),
    )


def biharmonic(image: Image, code: Image) -> Image:
    """Biharmonic inpainting of the known holes."""
    from skimage.restoration import inpaint_biharmonic

    return np.asarray(inpaint_biharmonic(image, code > 0.5))


def bicubic(image: Image, code: Image) -> Image:
    """Bicubic interpolation, which made the input already."""
    return image


CLASSICAL: Mapping[str, Mapping[str, Method]] = {
    "noise": {"median": median, "tv": total_variation},
    "blur": {"wiener": wiener, "richardson-lucy": richardson_lucy},
    "inpaint": {"biharmonic": biharmonic},
    "superres2": {"bicubic": bicubic},
    "superres4": {"bicubic": bicubic},
}
"""The methods by the corruption that they undo."""
SETTINGS: Mapping[str, Mapping[str, Sequence[float]]] = {
    "median": {"radius": (1, 2, 3)},
    "tv": {"weight": (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)},
    "wiener": {"balance": (0.0003, 0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3, 1.0)},
    "richardson-lucy": {"num_iter": (2, 3, 5, 8, 12, 20, 30, 50, 80, 120)},
}
"""What is tried, and chosen on training patients."""


class Restorer:
    """A classical method under the settings that were best on training patients for three strengths each."""

    def __init__(self, name: str, method: Method, inputs: Tensor, references: Tensor) -> None:
        self.method, codes = method, _strength(inputs)
        self.edges = codes.quantile(torch.tensor([1 / 3, 2 / 3]))
        tried = SETTINGS.get(name, {})
        choices = [dict(zip(tried, values, strict=True)) for values in product(*tried.values())]
        reached = torch.stack([psnr(_restored(method, inputs, one), references) for one in choices])
        level = torch.bucketize(codes, self.edges)
        best = [int(reached[:, level == at].mean(1).nan_to_num(0.0).argmax()) for at in range(_LEVELS)]
        self.settings = [choices[index] for index in best]

    def __call__(self, inputs: Tensor) -> Tensor:
        """Images [n, c, h, w] in [-1, 1] from inputs [n, c + 1, h, w]."""
        level = torch.bucketize(_strength(inputs), self.edges).tolist()
        rows = zip(inputs.split(1), level, strict=True)
        return torch.cat([_restored(self.method, row, self.settings[at]) for row, at in rows])


def _strength(inputs: Tensor) -> Tensor:
    """What the code says of each image, [n]."""
    return inputs[:, -1].flatten(1).mean(1)


def _restored(method: Method, inputs: Tensor, settings: Mapping[str, float]) -> Tensor:
    """Channel by channel, with the same settings for all."""
    scaled, codes = (inputs[:, :-1].double().numpy() + 1) / 2, inputs[:, -1].double().numpy()
    made = [
        [method(channel, code, **settings) for channel in image]
        for image, code in zip(scaled, codes, strict=True)
    ]
    return torch.from_numpy(np.asarray(made) * 2 - 1).float().clamp(-1, 1)


def _deblurred(image: Image, code: Image, undo: Callable[[Image, Image], Image]) -> Image:
    line = kernel(float(code[0, 0]) * BLUR[1]).numpy().astype(np.float64)
    margin = 2 * len(line)
    found = undo(np.pad(image, margin, mode="reflect"), np.outer(line, line))
    return np.asarray(found)[margin:-margin, margin:-margin]
