"""Networks that make an output of an image, and the discriminators that see both: MONAI's, with legal norms.

No layer mixes examples, so that every one of them may learn from patients: GroupNorm in the U-Net (Wu and He
2018, https://arxiv.org/abs/1803.08494), none in the discriminators.
"""

import torch
from monai.networks.nets import BasicUNet
from monai.networks.nets import PatchDiscriminator as MonaiPatchDiscriminator
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from medgan_core.gan.networks import norm_groups
from medgan_core.gan.task import ImageShape

_LARGE_SIDE = 128


def fold_of(image_shape: ImageShape) -> int:
    """How many pixels a side networks take at once: 2 of large images, whose passes cost a quarter then.

    Every pixel stays, as a channel (Shi et al. 2016, https://arxiv.org/abs/1609.05158, section 2.1).
    """
    return 2 if min(image_shape[1:]) >= _LARGE_SIDE else 1


class Mapper(nn.Module):
    """A U-Net from inputs [b, i, h, w] to outputs [b, o, h, w], sides being multiples of 16 · fold.

    It takes `fold`×`fold` pixels at once, as channels, and gives as many. With `residual` the first o
    channels of the input are added to what the U-Net makes: it then learns the difference alone. Outputs are
    not bounded. Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, *, residual: bool = False, fold: int = 1
    ) -> None:
        super().__init__()
        features = (width, width, 2 * width, 4 * width, 8 * width, width)
        norm = "group", {"num_groups": norm_groups(width)}
        act = "leakyrelu", {"negative_slope": 0.1, "inplace": False}
        ends = inputs * fold**2, outputs * fold**2
        self.unet = BasicUNet(2, *ends, features, act=act, norm=norm, upsample="deconv")
        self.outputs, self.residual, self.fold = outputs, residual, fold

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [b, o, h, w]."""
        made = pixel_shuffle(self.unet(pixel_unshuffle(inputs, self.fold)), self.fold)
        return made + inputs[:, : self.outputs] if self.residual else made


class PatchDiscriminator(nn.Module):
    """Images with what belongs to them [b, c, h, w] to scores of patches that overlap [b, 1, h/4-2, w/4-2].

    MONAI's (Isola et al. 2017, https://arxiv.org/abs/1611.07004, section 3.2.2), without its BatchNorm.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = MonaiPatchDiscriminator(2, width, channels, num_layers_d=2, norm=None, bias=True)

    def forward(self, images: Tensor) -> Tensor:
        """Scores, high for what is taken to be real."""
        scores: Tensor = self.layers(images)[-1]
        return scores


class PixelDiscriminator(nn.Module):
    """Images with their masks [b, c, h, w] to a score of every pixel [b, 1, h, w], by its surroundings.

    Fully convolutional, as Hung et al. 2018, https://arxiv.org/abs/1802.07934; dilation widens what it sees.
    It takes `fold`×`fold` pixels at once, as channels, and gives as many scores.
    """

    def __init__(self, channels: int, width: int, *, fold: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, self.fold = channels * fold**2, fold
        for dilation in (1, 2, 4):
            layers += [nn.Conv2d(before, width, 3, padding=dilation, dilation=dilation), nn.LeakyReLU(0.2)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, fold**2, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Scores, high for what is taken to be real."""
        return pixel_shuffle(self.layers(pixel_unshuffle(images, self.fold)), self.fold)


def beside(condition: Tensor, output: Tensor) -> Tensor:
    """What a discriminator sees: an input and its output in one image."""
    return torch.cat([condition, output], dim=1)
