"""Runs a function on several gloo ranks on this machine, each a process of its own."""

import datetime
import multiprocessing
import pickle
import tempfile
import traceback
from pathlib import Path

import torch
import torch.distributed as dist

# Forked from a process that has imported torch and nothing else, a rank starts in milliseconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "torch.distributed.fsdp", "submission.shampoo"])

# What a hang costs; on a busy machine ranks that are well take minutes.
_PATIENCE = datetime.timedelta(minutes=10)


def run(world, function, *args):
    """What `function(rank, *args)` returns on each of `world` ranks, in order.

    A rank that raises fails the test with its traceback. Results travel by pickle.
    """
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            _CONTEXT.Process(target=_rank, args=(rank, world, folder, function, args))
            for rank in range(world)
        ]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(_PATIENCE.total_seconds())
            rank.kill()
        outcomes = [_read(Path(folder) / str(number)) for number in range(world)]
    errors = [f"rank {number}: {error}" for number, (error, _) in enumerate(outcomes) if error]
    assert not errors, "\n".join(errors)
    return [result for _, result in outcomes]


def _read(path):
    return pickle.loads(path.read_bytes()) if path.exists() else ("gave no answer", None)


def _rank(rank, world, folder, function, args):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        answer = None, function(rank, *args)
    except BaseException:
        answer = traceback.format_exc(), None
    Path(f"{folder}/{rank}").write_bytes(pickle.dumps(answer))
    dist.destroy_process_group()
