"""Runs the benchmark's reference test on finewebedu_lm, for which it has no made-up batch.

    cd <the benchmark's checkout> && python .../reference_test_lm.py --workload=finewebedu_lm ...

Run by the benchmark's own Python with the flags of `tests/reference_algorithm_tests.py`. Everything
but the batch and the names of the expected metrics is that file's.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WORKLOAD = "finewebedu_lm"
SEQUENCE_LENGTH, VOCABULARY = 1024, 50_257


def batches(framework: str, size: int) -> Iterator[dict[str, Any]]:
    """The same made-up batch for ever: tokens, those that follow, and weights of 1."""
    import numpy as np

    tokens = np.random.default_rng(42).integers(0, VOCABULARY, (size, SEQUENCE_LENGTH + 1))
    batch: dict[str, Any] = {
        "inputs": tokens[:, :-1].astype(np.int32),
        "targets": tokens[:, 1:],
        "weights": np.ones((size, SEQUENCE_LENGTH), np.float32),
    }
    if framework == "pytorch":
        import torch

        batch = {name: torch.as_tensor(value) for name, value in batch.items()}
        if torch.cuda.is_available():
            batch = {name: value.cuda() for name, value in batch.items()}
    while True:
        yield batch


def with_batches(make: Callable[..., Any]) -> Callable[..., Any]:
    """The test's own maker of workloads, whose input queue is `batches` for the language model."""

    def make_with_batches(
        cls: type, name: str, framework: str, size: int, *rest: object, **named: object
    ) -> Any:
        workload = make(cls, name, framework, size, *rest, **named)
        if name == WORKLOAD:
            workload._build_input_queue = lambda *_, **__: batches(framework, size)
        return workload

    return make_with_batches


def main() -> None:
    """Runs the test; the exit code is that of absltest."""
    sys.path.insert(0, str(Path.cwd()))
    reference: Any = importlib.import_module("tests.reference_algorithm_tests")
    absltest: Any = importlib.import_module("absl.testing.absltest")
    reference._EXPECTED_METRIC_NAMES[WORKLOAD] = ["train/ppl", "validation/ppl"]
    reference._make_one_batch_workload = with_batches(reference._make_one_batch_workload)
    absltest.main(module="tests.reference_algorithm_tests")


if __name__ == "__main__":
    main()
