"""Models of the official workloads: their size and what regularizes them.

Source: the workload classes of mlcommons/algorithmic-efficiency at 2c90454f, their PyTorch models
counted; batch sizes are those of its target-setting algorithms. The models are the same in v0.5,
where dropout was chosen with `init_model_fn` instead of `model_fn`.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

SOURCE = (
    "model: PyTorch classes at 2c90454f, parameters counted; batch size: "
    "algorithms/target_setting_algorithms/get_batch_size.py"
)

NOTES: Mapping[str, str] = MappingProxyType(
    {
        "finewebedu_lm": "model: the class at 4c37f2aa; batch size: the NAdamW baseline there",
        "mnist": "batch size: algorithms/archived_paper_baselines/adamw",
        "cifar": "batch size: algorithms/development_algorithms/cifar",
    }
)


@dataclasses.dataclass(frozen=True)
class Model:
    """A model and how it is trained.

    Attributes:
      title: its name in prose.
      loss: as named by `spec.LossType`.
      parameters, tensors: counts of the PyTorch model.
      dropout_rate: what `model_fn` uses where a submission gives none; None where the model has no
        dropout, whatever is given.
      smooths_labels: whether `loss_fn` heeds `label_smoothing`; the others ignore it.
      batch_size: global training batch size of the benchmark's baselines.
      eval_batch_size: global batch size of evaluations under PyTorch.
    """

    title: str
    loss: str
    parameters: int
    tensors: int
    dropout_rate: float | None
    smooths_labels: bool
    batch_size: int
    eval_batch_size: int


def _variants(base: str, model: Model, **changes: dict[str, object]) -> dict[str, Model]:
    """A base workload's model and, by the rest of their names, what its variants change."""
    rows = {base: model}
    for name, change in changes.items():
        rows[f"{base}_{name}"] = dataclasses.replace(model, **change)  # type: ignore[arg-type]
    return rows


MODELS: Mapping[str, Model] = MappingProxyType(
    _variants(
        "criteo1tb",
        Model("DLRM small", "SIGMOID_CROSS_ENTROPY", 539_267_457, 20, 0.0, False, 262_144, 8_192),
        layernorm={"parameters": 539_275_137, "tensors": 36},
        embed_init={},
        resnet={"parameters": 538_121_473},
    )
    | _variants(
        "fastmri",
        Model("U-Net", "MEAN_ABSOLUTE_ERROR", 7_756_097, 24, 0.0, False, 32, 256),
        model_size={"parameters": 7_692_929, "tensors": 19},
        tanh={},
        layernorm={"parameters": 7_761_985, "tensors": 60},
    )
    | _variants(
        "imagenet_resnet",
        Model("ResNet-50", "SOFTMAX_CROSS_ENTROPY", 25_557_032, 161, None, True, 1_024, 1_024),
        silu={"batch_size": 512},
        gelu={"batch_size": 512},
        large_bn_init={},
    )
    | _variants(
        "imagenet_vit",
        Model("ViT-S/16", "SOFTMAX_CROSS_ENTROPY", 22_122_472, 200, 0.0, True, 1_024, 2_048),
        glu={"parameters": 50_452_456, "tensors": 224, "batch_size": 512},
        post_ln={"parameters": 22_121_704, "tensors": 198},
        map={"parameters": 23_896_552, "tensors": 213},
    )
    | _variants(
        "librispeech_conformer",
        Model("Conformer", "CTC_LOSS", 32_321_792, 138, 0.1, False, 256, 256),
        attention_temperature={},
        layernorm={"parameters": 32_317_696, "tensors": 130},
        gelu={},
    )
    | _variants(
        "librispeech_deepspeech",
        Model("DeepSpeech", "CTC_LOSS", 18_393_600, 82, 0.1, False, 256, 256),
        tanh={},
        no_resnet={},
        norm_and_spec_aug={"parameters": 18_392_576, "tensors": 80, "eval_batch_size": 128},
    )
    | _variants(
        "ogbg",
        Model("GNN", "SOFTMAX_CROSS_ENTROPY", 3_554_176, 66, 0.1, True, 512, 32_768),
        gelu={},
        silu={},
        model_size={"parameters": 2_571_648, "tensors": 78},
    )
    | _variants(
        "wmt",
        Model("Transformer", "SOFTMAX_CROSS_ENTROPY", 133_521_408, 155, 0.1, True, 128, 128),
        post_ln={"parameters": 133_517_312, "tensors": 151},
        attention_temp={},
        glu_tanh={"parameters": 146_116_608, "tensors": 179},
    )
    # Counted by hand from the class at 4c37f2aa: a tied embedding of 50257 x 1024, 12 layers of
    # 16779265 and a last norm of 1024.
    | _variants(
        "finewebedu_lm",
        Model("Transformer", "SOFTMAX_CROSS_ENTROPY", 252_815_372, 86, None, True, 64, 256),
    )
    | _variants(
        "mnist",
        Model("MLP", "SOFTMAX_CROSS_ENTROPY", 101_770, 4, None, True, 16, 10_000),
    )
    | _variants(
        "cifar",
        Model("ResNet-18", "SOFTMAX_CROSS_ENTROPY", 11_173_962, 62, None, True, 128, 1_024),
    )
)
