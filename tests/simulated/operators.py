"""Operators on a pretended device: what they read and write, whether the host waits, on what."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.simulated import tensors
from tests.simulated.copies import COPIES, copy, is_simulated
from tests.simulated.generators import is_of_device
from tests.simulated.order import current_stream, drain
from tests.simulated.record import RECORD, DeviceError, Taped
from tests.simulated.tensors import HostTensor, SimTensor

# The size or the choice of what comes next depends on values, or the library checks for errors.
_WAITING = {
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2"),
    *("unique_dim", "unique_consecutive", "repeat_interleave", "bincount", "histc", "_linalg_eigh"),
    *("_linalg_eigvals", "linalg_eig", "_linalg_svd", "linalg_qr", "linalg_lstsq", "geqrf"),
    *("_linalg_check_errors",),
}


@dataclasses.dataclass(frozen=True)
class _Signature:
    """What an operator's schema says.

    Attributes:
      full: the name with its overload.
      name: without that.
      writes: positions and names of arguments that are written.
      returned: for each result, the position and name of the argument that it is; None for others.
      is_view: whether all results share memory with an argument, and nothing is computed.
    """

    full: str
    name: str
    writes: frozenset[int | str]
    returned: tuple[tuple[int, str] | None, ...]
    is_view: bool


@functools.cache
def _signature(func: Any) -> _Signature:
    schema = func._schema
    writes: list[int | str] = []
    named: dict[str, tuple[int, str]] = {}
    is_collective = schema.name.startswith("c10d::")  # which do not say what they write
    for position, argument in enumerate(schema.arguments):
        if is_collective:
            writes += [position, argument.name]
        elif argument.alias_info is not None and argument.alias_info.is_write:
            writes += [position, argument.name]
            named.update(dict.fromkeys(argument.alias_info.before_set, (position, argument.name)))
    returned, views = [], []
    for result in schema.returns:
        alias = result.alias_info
        views.append(alias is not None and not alias.is_write)
        is_argument = alias is not None and alias.is_write
        known = [named[name] for name in alias.before_set if name in named] if is_argument else []
        returned.append(known[0] if known else None)
    is_view = bool(views) and all(views)
    name = schema.name.split("::")[1]
    return _Signature(str(func), name, frozenset(writes), tuple(returned), is_view)


def _tensors(args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[tuple[int | str, Tensor]]:
    """Every tensor, with the position or name of its argument."""
    for position, value in enumerate(args):
        if isinstance(value, Tensor):
            yield position, value
        elif isinstance(value, (list, tuple)):
            for tensor in _leaves(value):
                yield position, tensor
    for name, value in kwargs.items():
        for tensor in _leaves(value):
            yield name, tensor


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)


def _map(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        mapped = [_map(item, change) for item in value]
        return mapped if isinstance(value, list) else _tuple_like(value, mapped)
    return value


def _tuple_like(value: tuple[Any, ...], items: list[Any]) -> Any:
    return tuple(items) if type(value) is tuple else type(value)(*items)


def _raw(tensor: Tensor) -> Tensor:
    return tensor.raw if isinstance(tensor, (SimTensor, HostTensor)) else tensor


def run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Runs one operator as the device would.

    Raises:
      DeviceError: if its tensors are on two devices.
      OrderError: if it uses memory that others have not done with.
    """
    operands = list(_tensors(args, kwargs))
    target = kwargs.get("device")
    makes = target is not None and is_simulated(target)
    pins = bool(kwargs.get("pin_memory"))
    kinds = {type(tensor) for _, tensor in operands}
    on_device, on_host = SimTensor in kinds, HostTensor in kinds
    if not (makes or pins or on_device or on_host):
        return func(*args, **kwargs)
    signature = _signature(func)
    if signature.name in COPIES and (on_device or makes or on_host):
        copied = copy(signature.name, args, kwargs)
        if copied is not NotImplemented:
            return copied
    if not on_device and not makes:
        return _run_on_host(func, signature, operands, args, kwargs)
    if kinds - {SimTensor}:
        shapes = [tuple(t.shape) for _, t in operands if not isinstance(t, SimTensor)]
        raise DeviceError(f"{func}: tensors of the CPU among others, of shapes {shapes}")
    generator = kwargs.get("generator")
    if generator is not None and not is_of_device(generator):
        raise DeviceError(f"{func}: a generator of the CPU")
    if signature.is_view:
        return _returned(func, signature, args, kwargs)
    if signature.name in _WAITING or _indexes_by_booleans(signature.name, args):
        drain(signature.full)
    stream = current_stream()
    stream.enqueue(signature.name)
    if RECORD.tape is not None:
        RECORD.tape.append(_taped(signature.full, operands, args, kwargs))
    for key, tensor in operands:
        if key in signature.writes:
            tensor.memory.write(stream, signature.full)
        else:
            tensor.memory.read(stream, signature.full)
    return _returned(func, signature, args, kwargs)


def _taped(
    name: str,
    operands: list[tuple[int | str, Tensor]],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Taped:
    raws = [(key, _raw(tensor)) for key, tensor in operands]
    tensors = tuple(
        (raw.untyped_storage(), (key, raw.storage_offset(), raw.shape, raw.stride(), raw.dtype))
        for key, raw in raws
    )
    arguments = [_map(value, lambda _: None) for value in (*args, *kwargs.values())]
    return Taped(name, tensors, repr(arguments))


def _returned(func: Any, signature: _Signature, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Runs the operator on the values; its results are of the device."""
    plain = {name: _map(value, _raw) for name, value in kwargs.items()}
    if plain.get("device") is not None:
        plain["device"] = torch.device("cpu")
    result = func(*[_map(value, _raw) for value in args], **plain)
    if any(signature.returned):
        arguments = [
            pair and (args[pair[0]] if pair[0] < len(args) else kwargs[pair[1]])
            for pair in signature.returned
        ]
        if len(arguments) == 1:
            return arguments[0]
        return tuple(
            _map(returned, SimTensor) if argument is None else argument
            for returned, argument in zip(result, arguments, strict=True)
        )
    return _map(result, SimTensor)


def _run_on_host(
    func: Any,
    signature: _Signature,
    operands: list[tuple[int | str, Tensor]],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Any:
    """Runs an operator on pinned memory, or one that makes some."""
    for key, tensor in operands:
        if isinstance(tensor, HostTensor) and not signature.is_view:
            if key in signature.writes:
                tensor.memory.write(signature.full)
            else:
                tensor.memory.read(signature.full)
    plain = {name: _map(value, _raw) for name, value in kwargs.items()}
    pins = bool(plain.pop("pin_memory", False))
    result = func(*[_map(value, _raw) for value in args], **plain)
    if any(signature.returned):
        pair = signature.returned[0]
        assert pair is not None
        return args[pair[0]] if pair[0] < len(args) else kwargs[pair[1]]
    return _map(result, HostTensor) if pins or signature.is_view else result


def _indexes_by_booleans(name: str, args: Sequence[Any]) -> bool:
    """Whether the device must count what is True before the host can go on."""
    if not name.startswith(("index", "_index_put", "_unsafe_index")) or len(args) < 2:
        return False
    return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in _leaves(args[1]))


class SimMode(TorchDispatchMode):
    """Brings every operator to `run`, factories among them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


tensors.dispatch.append(run)
