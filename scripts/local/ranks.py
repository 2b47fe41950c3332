"""The ranks of one trial, processes that train together: how they meet, agree and fail.

With one rank nothing here communicates. Small values travel over gloo on the CPU.
"""

import datetime
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ErrorHandler

from common.cli import EXIT_USER_ERROR, UserError
from workloads.standin.replicas import count, rank

T = TypeVar("T")


class RankLost(Exception):  # noqa: N818 - seldom this rank's error
    """Another rank has ended, or does not answer."""


@contextmanager
def joined(timeout_seconds: float) -> Iterator[None]:
    """Meets the other ranks that torch's launcher has started; on GPUs, one for each rank.

    An exception goes to the launcher, which tells the person of the first one, and ends this
    process; what is due to the loss of another rank is a RankLost.

    Args:
      timeout_seconds: how long to wait for another rank before giving up.
    """
    try:
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(_gpu_of_this_rank())
            backend = "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout_seconds))
        yield
    except Exception as error:
        lost = _rank_lost(error, timeout_seconds)
        ErrorHandler().record_exception(lost or error)
        # Neither a traceback from every rank, nor destructors that wait for ranks that are gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_USER_ERROR if isinstance(error, UserError) else 1)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _gpu_of_this_rank() -> int:
    local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local_rank >= gpus:
        raise UserError(
            f"--nproc={os.environ['LOCAL_WORLD_SIZE']}: each process needs a GPU of its own, and "
            f"there are {gpus}; with CUDA_VISIBLE_DEVICES= they run on the CPU"
        )
    return local_rank


def _rank_lost(error: Exception, timeout_seconds: float) -> RankLost | None:
    """What an error of torch.distributed means, None for any other error."""
    # gloo's are plain RuntimeErrors that begin with the place in its sources.
    text = str(error)
    if not (isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo" in text)):
        return None
    first_line = (text.splitlines() or [""])[0]
    if "timed out" in text.lower():
        return RankLost(f"another process did not answer for {timeout_seconds:g} s ({first_line})")
    return RankLost(f"another process is gone ({first_line})")


def maximum(*values: float) -> tuple[float, ...]:
    """Each value's maximum over the ranks; a collective."""
    if count() == 1:
        return values
    maxima = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(maxima, op=dist.ReduceOp.MAX)
    return tuple(maxima.tolist())


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns on rank 0, the only one that calls it; a collective."""
    if count() == 1:
        return make()
    values = [make() if rank() == 0 else None]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]  # type: ignore[return-value]
