"""Stands in for `scripts.run` where a test is about many trials: writes a trial's files at once.

The best validation loss is |log10(learning_rate) + 2|, so 0.01 is the best learning rate, plus the
study's index divided by 100. The rate 0.5 makes a trial fail, and 0.7 makes it hang.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

from fake_facts import FACTS

EVALUATIONS = "global_step,score,train/loss,validation/loss,test/loss"


def main() -> int:
    parser = argparse.ArgumentParser()
    given = ("workload", "entry", "output", "search_space")
    for name in (*given, "cores", "nproc", "threads"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("study", "trial", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--max_steps", type=int)
    parser.add_argument("--checkpoint_period_seconds")
    parser.add_argument("--ignore_targets", action="store_true")
    args = parser.parse_args()
    point = json.loads(Path(args.search_space).read_text())[args.trial - 1]
    folder = Path(args.output) / args.entry / f"study_{args.study}"
    folder = folder / f"{args.workload}_pytorch" / f"trial_{args.trial}"
    with (Path(args.output) / "runs.txt").open("a") as runs:
        runs.write(f"{folder.relative_to(args.output)} cores={args.cores}\n")
    if point["learning_rate"] == 0.5:
        print("Traceback: many lines\nRuntimeError: the loss exploded", file=sys.stderr)
        return 1
    if point["learning_rate"] == 0.7:
        (folder / "hanging").touch()
        time.sleep(60)
    best = abs(math.log10(point["learning_rate"]) + 2) + args.study / 100
    last = args.max_steps or 24
    rows = [
        f"{step},{step / 10},0,{best + (last - step) / 100},{2 * best + (last - step) / 100}"
        for step in range(1, last + 1)
    ]
    (folder / "eval_measurements.csv").write_text("\n".join([EVALUATIONS, *rows, ""]))
    (folder / "hparams.json").write_text(json.dumps(point))
    settings = ("workload", "entry", "study", "trial", "seed", "max_steps", "ignore_targets")
    flags = {name: vars(args)[name] for name in settings}
    flags |= {
        name: getattr(FACTS, name)
        for name in ("step_hint", "eval_period_steps", "max_runtime_seconds")
    }
    for name in ("validation_target", "test_target"):
        flags[name] = None if args.ignore_targets else getattr(FACTS, name)
    (folder / "flags_0.json").write_text(json.dumps(flags))
    status = {
        "status": "complete",
        "reason": "steps",
        "global_step": last,
        "accumulated_submission_time": last / 10,
    }
    (folder / "status.json").write_text(json.dumps(status))
    return 0


if __name__ == "__main__":
    sys.exit(main())
