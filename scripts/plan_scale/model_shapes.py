"""Parameter shapes of the models that are planned for: AlgoPerf's, well-known ones and Llamas."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from common import files
from scripts.benchmark import network_shapes
from scripts.benchmark.network_shapes import Shapes

# The PyTorch models of the workload classes of mlcommons/algorithmic-efficiency at 2c90454f, built
# once with `init_model_fn`; `tests/scripts/test_model_shapes.py` holds them against the counts of
# `workloads/official/facts.json`.
_ALGOPERF_FILE = Path(__file__).parent / "model_shapes_algoperf.json"


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
        shapes: Shapes = {"tok_embeddings.weight": (self.vocabulary, self.width)}
        for number in range(self.layers):
            name = f"layers.{number}"
            shapes |= {
                f"{name}.attention_norm.weight": (self.width,),
                f"{name}.attention.wq.weight": (self.width, self.width),
                f"{name}.attention.wk.weight": (self.keys, self.width),
                f"{name}.attention.wv.weight": (self.keys, self.width),
                f"{name}.attention.wo.weight": (self.width, self.width),
                f"{name}.ffn_norm.weight": (self.width,),
                f"{name}.feed_forward.w1.weight": (self.hidden, self.width),
                f"{name}.feed_forward.w2.weight": (self.width, self.hidden),
                f"{name}.feed_forward.w3.weight": (self.hidden, self.width),
            }
        shapes["norm.weight"] = (self.width,)
        return shapes if self.tied else shapes | {"output.weight": (self.vocabulary, self.width)}


# Grattafiori et al. 2024 (arXiv:2407.21783, table 3); those of Llama 3.2, with 8 key heads of 64
# and of 128, from the configurations published with the weights.
_LLAMAS: Mapping[str, Llama] = MappingProxyType(
    {
        "llama3.2-1b": Llama(2048, 16, 512, 8192, tied=True),
        "llama3.2-3b": Llama(3072, 28, 1024, 8192, tied=True),
        "llama3-8b": Llama(4096, 32, 1024, 14336, tied=False),
        "llama3-70b": Llama(8192, 80, 1024, 28672, tied=False),
    }
)
_ALGOPERF = (
    *("criteo1tb", "fastmri", "imagenet_resnet", "imagenet_vit", "librispeech_conformer"),
    *("librispeech_deepspeech", "ogbg", "wmt"),
)

MODELS = (*_ALGOPERF, *network_shapes.NETWORKS, *_LLAMAS)
# Whose training costs about 6 operations per parameter and token.
LANGUAGE_MODELS = ("gpt2_small", *_LLAMAS)


def shapes(model: str) -> Shapes:
    """Shape of every parameter by name.

    Raises:
      KeyError: for a model that is not in `MODELS`.

    >>> shapes("llama3-8b")["layers.0.attention.wk.weight"]
    (1024, 4096)
    """
    if model in _LLAMAS:
        return _LLAMAS[model].shapes()
    if model in _ALGOPERF:
        found = files.read_json(_ALGOPERF_FILE)[model]
        return {name: tuple(shape) for name, shape in found.items()}
    return network_shapes.shapes(model)
