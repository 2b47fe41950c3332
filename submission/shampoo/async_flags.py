"""Flags from a device to the host, without a wait."""

import itertools
from typing import Any

import torch
from torch import Tensor

from .devices import stream_module, to_list


class AsyncFlags:
    """Flags that a device sets at one step and the host reads at a later one.

    Reading a tensor on the host stalls it until the device has done all that was queued. Here the
    copy to the host is queued at once, and read only when it has long been made: a step later, the
    wait for its event is over before it begins.

    >>> flags = AsyncFlags()
    >>> flags.post(torch.tensor([False, True, True]))
    >>> flags.read(), flags.read()
    ([1, 2], [])
    """

    def __init__(self) -> None:
        self._values: Tensor | None = None
        self._copied: Any = None

    def post(self, flags: Tensor) -> None:
        """Starts the copy of `flags`, as they are now; forgets flags posted before and not read.

        Args:
          flags: booleans [K]; on an accelerator, the current stream must have made them.
        """
        streams = stream_module(flags.device)
        if streams is not None:
            # Pinned anew each time: the caching allocator reuses the page when its copy is done,
            # while a page of our own might still be awaited by a copy on another stream.
            values = torch.empty(flags.shape, dtype=torch.bool, device="cpu", pin_memory=True)
            values.copy_(flags, non_blocking=True)
            self._copied = streams.current_stream(flags.device).record_event()
        else:
            values = flags.clone()
            self._copied = None
        self._values = values

    @property
    def is_posted(self) -> bool:
        """Whether there is something to `read`."""
        return self._values is not None

    def read(self) -> list[int]:
        """Indices of the flags set in what was posted last, once; waits for that copy alone."""
        values, copied = self._values, self._copied
        self._values = self._copied = None
        if copied is not None:
            copied.synchronize()
        if values is None:
            return []
        flags = to_list(values)
        return list(itertools.compress(range(len(flags)), flags))
