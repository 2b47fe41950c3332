"""Parameter shapes of well-known networks, for measuring optimizers without the networks."""

from collections.abc import Callable, Sequence

Shapes = dict[str, tuple[int, ...]]


def shapes(network: str) -> Shapes:
    """Shape of every parameter by its name in the usual PyTorch implementation.

    Raises:
      KeyError: for a network that is not in `NETWORKS`.

    >>> sum(len(shape) > 1 for shape in shapes("resnet50").values())
    54
    """
    return _NETWORKS[network]()


def _affine(name: str, *weight: int) -> Shapes:
    """A weight and its bias, one for each output."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _transformer_block(name: str, layers: Sequence[str], width: int) -> Shapes:
    """Norm, query-key-value, projection, norm, and an MLP of four times the width."""
    attention = ((width,), (3 * width, width), (width, width))
    mlp = ((width,), (4 * width, width), (width, 4 * width))
    block: Shapes = {}
    for layer, size in zip(layers, (*attention, *mlp), strict=True):
        block |= _affine(f"{name}.{layer}", *size)
    return block


def _resnet50() -> Shapes:
    """ResNet-50 (He et al. 2016, arXiv:1512.03385, table 1), 1000 classes; names of torchvision."""
    network: Shapes = {"conv1.weight": (64, 3, 7, 7), **_affine("bn1", 64)}
    inputs = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            convolutions = ((width, inputs, 1), (width, width, 3), (4 * width, width, 1))
            for number, (outs, ins, edge) in enumerate(convolutions, start=1):
                network[f"{name}.conv{number}.weight"] = (outs, ins, edge, edge)
                network |= _affine(f"{name}.bn{number}", outs)
            if block == 0:
                network[f"{name}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                network |= _affine(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    return network | _affine("fc", 1000, 2048)


def _vit_s16() -> Shapes:
    """ViT-S/16 (Touvron et al. 2021, arXiv:2012.12877, table 1), 1000 classes; names of timm."""
    width = 384
    network: Shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 197, width)}
    network |= _affine("patch_embed.proj", width, 3, 16, 16)
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    for number in range(12):
        network |= _transformer_block(f"blocks.{number}", layers, width)
    return network | _affine("norm", width) | _affine("head", 1000, width)


def _gpt2_small() -> Shapes:
    """GPT-2 small (Radford et al. 2019), the output layer tied to the embedding; outputs first."""
    width = 768
    network: Shapes = {"wte.weight": (50257, width), "wpe.weight": (1024, width)}
    layers = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    for number in range(12):
        network |= _transformer_block(f"h.{number}", layers, width)
    return network | _affine("ln_f", width)


def _small_200k() -> Shapes:
    """Three 3x3 convolutions and two linear layers for 32x32 images, pooled to 4x4 between them.

    Where an optimizer's overhead per tensor shows most. Ours, from no paper; it stays as it is, so
    that results of different days can be compared.
    """
    return (
        _affine("conv1", 32, 3, 3, 3)
        | _affine("conv2", 64, 32, 3, 3)
        | _affine("conv3", 64, 64, 3, 3)
        | _affine("fc1", 128, 64 * 4 * 4)
        | _affine("fc2", 10, 128)
    )


_NETWORKS: dict[str, Callable[[], Shapes]] = {
    "small_200k": _small_200k,
    "resnet50": _resnet50,
    "vit_s16": _vit_s16,
    "gpt2_small": _gpt2_small,
}
NETWORKS = tuple(_NETWORKS)
