"""What the types of a model's modules say of its parameters, as parameter groups."""

from typing import Any

from torch import Tensor, nn

from ..plan.blocking import matrices_of
from ..plan.options import BlockingConfig
from .parameters import check_initialized

_CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Named parameter groups, with the options `table`, `matrix_dims` and `split` where they apply.

    Shapes alone make an optimizer guess. Here an `nn.Embedding` or `nn.EmbeddingBag` is a table,
    also where an output layer shares its weight; a convolution is one, and the outputs of its
    groups are parts of their own, unless each is a single row; the projection of
    `nn.MultiheadAttention` is split into queries, keys and values; `nn.Bilinear` is a stack of one
    matrix for each output. All other parameters are the first group, without options.

    Args:
      model: its parameters are listed once each, also those without `requires_grad`.

    Returns:
      Groups with `params`, `param_names` and options, which may be added to.

    Raises:
      ValueError: for a parameter of a lazy module that has not been called yet.

    >>> model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 8))
    >>> [(group["param_names"], group.get("table")) for group in parameter_groups(model)]
    [(['1.weight', '1.bias'], None), (['0.weight'], True)]
    """
    for name, parameter in model.named_parameters():
        check_initialized(parameter, name)
    options_of: dict[Tensor, dict[str, Any]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=isinstance(module, _CONVOLUTIONS)):
            if parameter.dim() > 1:
                options_of.setdefault(parameter, {}).update(_options(module, parameter))
    groups: dict[tuple[Any, ...], dict[str, Any]] = {(): {"params": [], "param_names": []}}
    for name, parameter in model.named_parameters():
        options = options_of.get(parameter, {})
        empty = {"params": [], "param_names": [], **options}
        group = groups.setdefault(tuple(options.items()), empty)
        group["params"].append(parameter)
        group["param_names"].append(name)
    return [group for group in groups.values() if group["params"]]


def _options(module: nn.Module, parameter: Tensor) -> dict[str, Any]:
    """The options of a parameter of two or more dimensions that is the module's own."""
    options: dict[str, Any] = {}
    rows = len(parameter)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        options["table"] = True
    elif isinstance(module, nn.Bilinear):
        options["matrix_dims"] = "stack"
    elif isinstance(module, nn.MultiheadAttention):
        if parameter is module.in_proj_weight:
            options["split"] = (rows // 3,) * 3
    elif isinstance(module, _CONVOLUTIONS):
        options["matrix_dims"] = "convolution"
        # The first dimension of a transposed one is its inputs, which belong to groups as well.
        if 1 < module.groups < rows:
            options["split"] = (rows // module.groups,) * module.groups
    if _is_said_by_shape(parameter, options):
        del options["matrix_dims"]
    return options


def _is_said_by_shape(parameter: Tensor, options: dict[str, Any]) -> bool:
    """Whether `matrix_dims` need not be told; fewer groups have larger stacks."""
    if "matrix_dims" not in options:
        return False
    told = BlockingConfig(matrix_dims=options["matrix_dims"])
    return matrices_of(parameter.shape, told) == matrices_of(parameter.shape, BlockingConfig())
