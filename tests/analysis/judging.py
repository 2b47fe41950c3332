"""Judgements of made-up logs and of the published leaderboard, to test what is made of them."""

import functools
from pathlib import Path

from analysis import published
from analysis.judgement import Judgement, choose_rules, judge, judge_trials
from analysis.logs import read_logs
from workloads.rulesets import ruleset

RESAMPLES = 50


def judge_folder(root: Path, baseline: str | None = None) -> Judgement:
    """A folder of stand-ins' logs."""
    logs = read_logs(root)
    rules, _ = choose_rules(set(logs.frame["workload"]))
    return judge(logs, rules, baseline, where=root, resamples=RESAMPLES)


@functools.cache
def judge_published(version: str) -> Judgement:
    """The published external submissions of a version."""
    trials = published.read_trials(version)
    return judge_trials(trials, ruleset(version), "baseline", resamples=RESAMPLES)
