"""Parameter shapes of AlgoPerf's models, of well-known networks and of Llamas, without the models.

`model_shapes.json` has those of

- AlgoPerf: the PyTorch models of the workload classes of mlcommons/algorithmic-efficiency at
  58491177, built once with `init_model_fn`; at 2c90454f they are the same, without finewebedu_lm;
- resnet50: He et al. 2016 (arXiv:1512.03385), table 1, 1000 classes, with torchvision's names;
- vit_s16: Touvron et al. 2021 (arXiv:2012.12877), table 1, 1000 classes, with timm's names;
- gpt2_small: Radford et al. 2019, the output layer tied to the embedding; outputs first;
- small_200k: three 3x3 convolutions and two linear layers for 32x32 images, pooled to 4x4 between
  them, where an optimizer's overhead per tensor shows most. From no paper; it stays as it is, so
  that results of different days can be compared.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from common import files

Shapes = dict[str, tuple[int, ...]]
_FILE = Path(__file__).with_suffix(".json")


@dataclasses.dataclass(frozen=True)
class Llama:
    """A decoder with grouped-query attention and a gated MLP, without biases.

    Attributes:
      width, layers: of the residual stream.
      keys: output rows of the key and of the value projection.
      hidden: rows of each of the MLP's two first layers.
      tied: whether the output layer is the embedding.
      vocabulary: rows of the embedding.
    """

    width: int
    layers: int
    keys: int
    hidden: int
    tied: bool
    vocabulary: int = 128_256

    def shapes(self) -> Shapes:
        """By name, as in the published checkpoints."""
        layer: Shapes = {
            "attention_norm": (self.width,),
            "attention.wq": (self.width, self.width),
            "attention.wk": (self.keys, self.width),
            "attention.wv": (self.keys, self.width),
            "attention.wo": (self.width, self.width),
            "ffn_norm": (self.width,),
            "feed_forward.w1": (self.hidden, self.width),
            "feed_forward.w2": (self.width, self.hidden),
            "feed_forward.w3": (self.hidden, self.width),
        }
        shapes: Shapes = {"tok_embeddings.weight": (self.vocabulary, self.width)}
        for number in range(self.layers):
            shapes |= {f"layers.{number}.{name}.weight": shape for name, shape in layer.items()}
        shapes["norm.weight"] = (self.width,)
        return shapes if self.tied else shapes | {"output.weight": (self.vocabulary, self.width)}


# Grattafiori et al. 2024 (arXiv:2407.21783, table 3); those of Llama 3.2, with 8 key heads of 64
# and of 128, from the configurations published with the weights.
LLAMAS: Mapping[str, Llama] = {
    "llama3.2-1b": Llama(2048, 16, 512, 8192, tied=True),
    "llama3.2-3b": Llama(3072, 28, 1024, 8192, tied=True),
    "llama3-8b": Llama(4096, 32, 1024, 14336, tied=False),
    "llama3-70b": Llama(8192, 80, 1024, 28672, tied=False),
}
NETWORKS = ("small_200k", "resnet50", "vit_s16", "gpt2_small")
ALGOPERF = (
    *("criteo1tb", "fastmri", "imagenet_resnet", "imagenet_vit", "librispeech_conformer"),
    *("librispeech_deepspeech", "finewebedu_lm", "ogbg", "wmt"),
)
MODELS = (*ALGOPERF, *NETWORKS, *LLAMAS)
# Models whose training costs about 6 operations per parameter and token.
LANGUAGE_MODELS = ("gpt2_small", *LLAMAS)


def shapes(model: str) -> Shapes:
    """Shape of every parameter by its name in the usual PyTorch implementation.

    Raises:
      KeyError: for a model that is not in `MODELS`.

    >>> shapes("llama3-8b")["layers.0.attention.wk.weight"]
    (1024, 4096)
    """
    if model in LLAMAS:
        return LLAMAS[model].shapes()
    return {name: tuple(shape) for name, shape in files.read_json(_FILE)[model].items()}
