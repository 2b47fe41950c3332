"""Several gloo ranks that train, started from a process that has imported what that takes."""

import multiprocessing

from tests.submission.shampoo.ranks import run

__all__ = ["run"]

# DistributedDataParallel imports the compiler, for two seconds.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    [
        "torch._dynamo",
        "torch.distributed.fsdp",
        "pandas",
        "scripts.local.runner",
        "submission.shampoo",
    ]
)
