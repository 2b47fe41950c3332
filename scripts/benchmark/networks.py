"""The two networks of `model_shapes` that train on images, with all that a training step needs.

Parameters have the shapes of `model_shapes.shapes("vit_s16")` and `("resnet50")`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

CLASSES = 1000


class VisionTransformer(nn.Module):
    """Patches by a convolution, a class token, pre-norm blocks, a linear head on the token.

    Args:
      side: of an image, in pixels.
      patch: side of a patch, a divisor of `side`.
      width, depth, heads: of the transformer, whose MLPs are four times as wide.
    """

    def __init__(self, side: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
                )
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, 3, side, side] to logits [batch, 1000]."""
        patches = self.patches(images).flatten(2).mT
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)
        logits: Tensor = self.head(self.norm(self.blocks(tokens + self.positions))[:, 0])
        return logits


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 with the stride and a 1x1 convolution, added to a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.branch = nn.Sequential(
            *_convolved(inputs, width, 1, 1),
            nn.ReLU(inplace=True),
            *_convolved(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_convolved(width, outputs, 1, 1),
        )
        changes = stride > 1 or inputs != outputs
        self.shortcut = nn.Sequential(*(_convolved(inputs, outputs, 1, stride) if changes else ()))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, h, w] to [batch, 4 width, h / stride, w / stride]."""
        return torch.relu(self.branch(x) + self.shortcut(x))


class ResidualNetwork(nn.Module):
    """A 7x7 stem of stride 2, pooling, stages of bottlenecks, the mean over pixels, a linear head.

    Args:
      depths: bottlenecks of each stage; all stages but the first halve the side.
      width: of the stem and the first stage, doubled from stage to stage.
    """

    def __init__(self, depths: Sequence[int], width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_convolved(3, width, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)
        )
        inputs, stages = width, []
        for stage, depth in enumerate(depths):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                stages.append(Bottleneck(inputs, width << stage, stride))
                inputs = 4 * (width << stage)
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, 3, side, side] to logits [batch, 1000]."""
        logits: Tensor = self.head(self.stages(self.stem(images)).mean((2, 3)))
        return logits


def _convolved(inputs: int, outputs: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and the images that it is trained on.

    Attributes:
      workload: of AlgoPerf, whose batch it gets.
      build: makes it on the CPU.
      side: of an image, in pixels.
    """

    workload: str
    build: Callable[[], nn.Module]
    side: int


NETWORKS: Mapping[str, Network] = {
    "vit_s16": Network("imagenet_vit", lambda: VisionTransformer(224, 16, 384, 12, 6), 224),
    "resnet50": Network("imagenet_resnet", lambda: ResidualNetwork((3, 4, 6, 3), 64), 224),
}
# Of the same kinds, for a test of what measures them.
TINY: Mapping[str, Network] = {
    "vit_s16": Network("imagenet_vit", lambda: VisionTransformer(32, 16, 16, 1, 2), 32),
    "resnet50": Network("imagenet_resnet", lambda: ResidualNetwork((1, 1), 8), 32),
}
