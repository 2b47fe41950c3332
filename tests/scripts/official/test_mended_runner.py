"""The restore that JAX's trials get: from the benchmark's checkpoints, and into its runner."""

import subprocess
import sys

import pytest

from scripts.official.command import MENDED_RUNNER
from scripts.official.launcher.mended_runner import restored

SAVED = {"last_eval_time": 12.5, "validation_goal_reached": False, "last_step_end_time": 13.0}
BEGUN = {"last_eval_time": 0, "validation_goal_reached": False, "last_step_end_time": None}
RESULTS = [(3, {"validation/accuracy": 0.5, "score": 1.0}), (6, {"validation/accuracy": 0.75})]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_restored_trial_goes_on_as_if_nothing_had_happened(tmp_path):
    checkpoints = pytest.importorskip("flax.training.checkpoints", reason="flax is not installed")
    pytest.importorskip("orbax.checkpoint", reason="orbax is not installed")
    import jax.numpy as jnp
    import numpy as np

    from tests.submission.algoperf_api import test_jax as api
    from tests.submission.tiny_jax_training import arrays
    from tests.submission.tiny_training import make_batch

    def new_run():
        entry = api.entry_of(api.small_shampoo, reader=lambda point: api.evaluated)
        return api.run_of(entry, model_state={"mean": jnp.zeros(())}, learning_rate=0.1)

    def restore(run):
        return restored(
            *("jax", run.state, run.params, run.model_state, dict(BEGUN), [], 0, 0, str(tmp_path))
        )

    run, other = new_run(), new_run()
    begun = restore(other)
    assert begun == (other.state, other.params, other.model_state, BEGUN, [], 0, 0)
    for step in range(3):
        run.step(arrays(make_batch(step)), step)
    run.prepare()
    # As the benchmark's `save_checkpoint` does.
    state = {
        "model_params": run.params,
        "optimizer_state": run.state[0],
        "model_state": run.model_state,
        "train_state": SAVED,
        "eval_results": tuple(RESULTS),
        "global_step": 3,
        "preemption_count": 1,
    }
    checkpoints.save_checkpoint(tmp_path, target=state, step=3, overwrite=True, keep=np.inf)
    other.state, other.params, other.model_state, *progress = restore(other)
    assert progress == [SAVED, RESULTS, 3, 2]
    for instance in (run, other):
        for step in range(3, 6):
            instance.step(arrays(make_batch(step)), step)
    assert all(np.array_equal(run.params[name], other.params[name]) for name in run.params)
    assert run.model_state == other.model_state


def test_the_runner_is_run_as_python_would_and_has_the_restore(tmp_path):
    (tmp_path / "algoperf").mkdir()
    (tmp_path / "algoperf/__init__.py").write_text("")
    (tmp_path / "algoperf/checkpoint_utils.py").write_text("maybe_restore_checkpoint = None\n")
    runner = tmp_path / "submission_runner.py"
    runner.write_text(
        "import sys\nfrom algoperf import checkpoint_utils\n"
        "if __name__ == '__main__':\n"
        "    print(*sys.argv, checkpoint_utils.maybe_restore_checkpoint.__name__)\n"
    )
    command = [sys.executable, str(MENDED_RUNNER), str(runner), "--workload=mnist"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True)
    assert done.stdout.split() == [str(runner), "--workload=mnist", "restored"], done.stderr
