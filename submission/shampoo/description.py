"""What an optimizer does, in words: options as resolved, each parameter's treatment, and totals."""

import itertools
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..plan.blocking import ParameterPlan, parts_of, plan_parameter, stack_specs
from ..plan.ownership import block_cost
from ..plan.solvers import resolve_basis_solver, resolve_root_solver
from . import averaging
from .config import FIXED, OPTIONS, ShampooConfig, StateConfig, parameter_names, state_dtype
from .devices import is_queued
from .stack import block_bytes, needed_moments

_METHODS = {"shampoo": "Shampoo", "soap": "SOAP", "kl_shampoo": "KL-Shampoo"}
_DIAGONALS = {"sgd": "SGD", "adagrad": "AdaGrad", "rmsprop": "RMSprop", "adam": "AdamW"}
_ONE_SIDE = {(True, True): "", (True, False): " left only", (False, True): " right only"}
_WIDTH = 100
# Stands for a space at which no line is broken.
_TIE = "\u00a0"
# The 11 of "layers.11.w1" or of "param 11".
_NUMBER = re.compile(r"(?<![^. ])\d+(?![^. ])")


def text(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of `Shampoo.__repr__`, of at most 100 characters."""
    lines: list[str] = []
    first: dict[str, str] = {}
    moved: Counter[str] = Counter()
    state, work = 0, 0.0
    for number, group in enumerate(groups):
        config = StateConfig(**{name: group[name] for name in FIXED})
        plans = [plan_parameter(parameter.shape, config) for parameter in group["params"]]
        options = resolved(group, config)
        shown = [f"{name}={value}" for name, value in options.items() if first.get(name) != value]
        if number:
            shown.append("all else as group 0" if shown else "as group 0")
        first = first or options
        lines += _wrapped(f"group {number}: {', '.join(shown)}", 2)
        for line in _treatments(group, config, plans):
            lines += _wrapped(line, 4)
        for parameter, plan in zip(group["params"], plans, strict=True):
            moved[_mover(config, plan)] += parameter.numel()
        state += _state_bytes(group, config, plans)
        work += sum(
            grid.blocks * block_cost(grid.height, grid.width, grid.sides, group["refresh_interval"])
            for plan in plans
            for grid in plan.grids
        )
    shares = ", ".join(f"{count:,} by {mover}" for mover, count in moved.items())
    lines += _wrapped(f"parameters: {shares or 'none'}", 2)
    work_text = f"{short(work)}FLOP per step as modelled"
    return lines + _wrapped(f"state on all ranks: {short(state)}B; work: {work_text}", 2)


def resolved(group: Mapping[str, Any], config: StateConfig) -> dict[str, str]:
    """The options that have a meaning for a group, by name: what "auto" and None come to.

    Those that are decided for each parameter show in its blocks.
    """
    full = ShampooConfig(**{name: group[name] for name in OPTIONS if name != "lr"})
    method, exponent, table = config.method, full.inverse_power, config.table
    exponents = [exponent or 0.5]
    if exponent is None and method == "shampoo":
        exponents = [0.25, 0.5]
    kinds = {is_queued(parameter.device) for parameter in group["params"]} or {False}
    root_solvers = {
        resolve_root_solver(group["root_solver"], e, k) for e in exponents for k in kinds
    }
    basis_solvers = {resolve_basis_solver(group["basis_solver"], kind) for kind in kinds}
    values = {name: group[name] for name in OPTIONS} | {
        "lr": float(group["lr"]),
        "split": _counted(config.split or ()),
        "grafting": config.graft or "off",
        "averaging": config.averaging or "off",
        "factor_dtype": str(config.factor_dtype).removeprefix("torch."),
        "root_dtype": str(config.root_dtype).removeprefix("torch."),
        "exponent": f"{exponents[0]:g}",
        "root_solver": " or ".join(sorted(root_solvers)),
        "basis_solver": " or ".join(sorted(basis_solvers)),
    }
    if len(exponents) > 1:
        values["exponent"] += f" ({exponents[1]:g} with one factor{_reason(full)})"
    is_ema = config.averaging == "ema"
    has_no_meaning = {
        "maximize": not group["maximize"],
        "fused": group["fused"] is None,
        "matrix_dims": config.matrix_dims == "auto",
        "split": config.split is None,
        "table": table == "auto",
        "max_dim": table != "auto",
        "table_aspect": table != "auto",
        "oversize": table is False,
        "exponent": method == "soap",
        "root_solver": method != "shampoo",
        "basis_solver": method == "shampoo",
        "averaging_share": not is_ema or group["averaging_decay"] is not None,
        "averaging_decay": not is_ema or group["averaging_decay"] is None,
        "averaging_beta": config.averaging != "schedule_free",
    }
    return {n: str(value) for n, value in values.items() if not has_no_meaning.get(n, False)}


def _reason(config: ShampooConfig) -> str:
    """Why the exponent is not 1/2, if it was left to "auto"."""
    automatic = config.exponent == "auto" and config.exponent_obstacle
    return f"; not 0.5 because of {config.exponent_obstacle}" if automatic else ""


def _counted(sizes: Sequence[int]) -> str:
    """(64, 64, 8) as "2 x 64 + 64"."""
    runs = [(len(list(same)), size) for size, same in itertools.groupby(sizes)]
    return " + ".join(f"{count} x {size}" if count > 1 else f"{size}" for count, size in runs)


def _mover(config: StateConfig, plan: ParameterPlan) -> str:
    return _DIAGONALS[config.diagonal] if plan.reason else _METHODS[config.method]


def _treatments(
    group: Mapping[str, Any], config: StateConfig, plans: Sequence[ParameterPlan]
) -> list[str]:
    """For parameters that differ by numbers in their names alone, their blocks or the reason."""
    kinds: defaultdict[tuple[tuple[str, ...], str, str], list[list[int]]] = defaultdict(list)
    for name, parameter, plan in zip(parameter_names(group), group["params"], plans, strict=True):
        treatment = _mover(config, plan)
        if plan.reason:
            treatment += f" ({plan.reason})"
        else:
            blocks: Counter[str] = Counter()
            for grid in plan.grids:
                blocks[_shape((grid.height, grid.width)) + _ONE_SIDE[grid.sides]] += grid.blocks
            treatment += ", " + " + ".join(f"{n}{_TIE}x{_TIE}{b}" for b, n in blocks.items())
        key = tuple(_NUMBER.split(name)), _shape(parameter.shape), treatment
        kinds[key].append([int(number) for number in _NUMBER.findall(name)])
    lines = []
    for (words, shape, treatment), numbers in kinds.items():
        ranges = [_ranges(column) for column in zip(*numbers, strict=True)]
        pairs = itertools.zip_longest(words, ranges, fillvalue="")
        name = "".join(itertools.chain.from_iterable(pairs))
        count = f" x {len(numbers)}" if len(numbers) > 1 else ""
        lines.append(f"{name} {shape}{count}: {treatment}")
    return lines


def _shape(shape: Sequence[int]) -> str:
    return str(list(shape)).replace(" ", _TIE)


def _ranges(numbers: Iterable[int]) -> str:
    """Distinct numbers as ranges.

    >>> _ranges([0, 1, 2, 5, 2])
    '0-2,5'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _state_bytes(
    group: Mapping[str, Any], config: StateConfig, plans: Sequence[ParameterPlan]
) -> int:
    """Bytes of the state of a group's parameters that are not frozen, all ranks together."""
    by_dtype = defaultdict(list)
    total = 0
    for index, parameter in enumerate(group["params"]):
        if not parameter.requires_grad:
            continue
        by_dtype[state_dtype(parameter.dtype)].extend(parts_of(index, plans[index]))
        total += averaging.state_bytes(config.averaging, parameter)
    moments = needed_moments(group["betas"], group["momentum"])
    for dtype, parts in by_dtype.items():
        for spec in stack_specs(parts):
            total += spec.blocks * block_bytes(spec, config, dtype, moments)
    return total


def short(value: float) -> str:
    """A number and the prefix of its unit.

    >>> short(1234567.0), short(12)
    ('1.23 M', '12 ')
    """
    prefixes = ("", "k", "M", "G", "T", "P", "E")
    power = sum(value >= 1000**power for power in range(1, len(prefixes)))
    return f"{value / 1000**power:.3g} {prefixes[power]}"


def _wrapped(line: str, indent: int) -> list[str]:
    wrapper = textwrap.TextWrapper(
        _WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 4),
        break_on_hyphens=False,
    )
    return [part.replace(_TIE, " ") for part in wrapper.wrap(line)]
