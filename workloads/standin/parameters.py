"""Types of a model's parameters, derived from their names as AlgoPerf does."""

from torch import nn

from submission.algoperf_api import spec

_ATTENTION = (
    ("bias", spec.ParameterType.ATTENTION_BIAS),
    ("in_proj", spec.ParameterType.ATTENTION_QKV),
    ("q_proj", spec.ParameterType.ATTENTION_Q),
    ("kv_proj", spec.ParameterType.ATTENTION_KV),
    ("out_proj", spec.ParameterType.ATTENTION_OUT),
)


def parameter_shapes(model: nn.Module) -> dict[str, spec.ShapeTuple]:
    """Parameter name to shape."""
    return {name: spec.ShapeTuple(tuple(p.shape)) for name, p in model.named_parameters()}


def parameter_type(name: str) -> spec.ParameterType:
    """The type of one parameter; ValueError for an attention parameter of unknown role.

    >>> parameter_type("blocks.0.norm_mlp.bias").name, parameter_type("head.weight").name
    ('LAYER_NORM_BIAS', 'WEIGHT')
    >>> parameter_type("batch_norm.weight").name, parameter_type("stem_conv.weight").name
    ('BATCH_NORM_SCALE', 'CONV_WEIGHT')
    """
    # An LSTM's are named bias_ih_l0 and the like.
    is_bias = "bias" in name.rpartition(".")[2]
    if "batch_norm" in name:
        return (
            spec.ParameterType.BATCH_NORM_BIAS if is_bias else spec.ParameterType.BATCH_NORM_SCALE
        )
    if "norm" in name:
        return (
            spec.ParameterType.LAYER_NORM_BIAS if is_bias else spec.ParameterType.LAYER_NORM_SCALE
        )
    if "conv" in name:
        return spec.ParameterType.BIAS if is_bias else spec.ParameterType.CONV_WEIGHT
    if "embed" in name and name.endswith("weight"):
        return spec.ParameterType.EMBEDDING
    if "attention" in name:
        for part, kind in _ATTENTION:
            if part in name:
                return kind
        raise ValueError(f"attention parameter of unknown role: {name}")
    return spec.ParameterType.BIAS if is_bias else spec.ParameterType.WEIGHT
