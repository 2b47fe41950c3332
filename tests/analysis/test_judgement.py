import pytest

from analysis.evaluations import Problem
from analysis.judgement import judge
from analysis.logs import Logs, read_logs
from common.cli import UserError
from tests.analysis.conftest import judge_folder, judge_published
from tests.analysis.made_up import write_trial
from workloads.rulesets import ruleset


@pytest.mark.parametrize(
    ("entries", "baseline"),
    [
        (["adamw", "nadamw", "shampoo"], "adamw"),
        (["baseline", "nadamw", "shampoo"], "nadamw"),
        (["baseline", "shampoo"], "baseline"),
        (["shampoo"], None),
    ],
)
def test_the_baseline_is_the_first_that_is_there(tmp_path, entries, baseline):
    for entry in entries:
        write_trial(tmp_path, entry, "mnist_vit", 0, 1, [0.95])
    assert judge_folder(tmp_path).baseline == baseline


def test_workloads_come_in_the_rules_order_with_their_variants():
    names = list(judge_published("v0.5").facts)
    assert names[:4] == ["criteo1tb", "criteo1tb_embed_init", "criteo1tb_layernorm", "fastmri"]
    assert len(names) == 18


def test_entries_come_by_score():
    judged = judge_published("v0.5")
    scores = judged.intervals.scores.set_index("submission")["score"]
    assert scores[list(judged.entries)].is_monotonic_decreasing
    assert judged.entries[0] == "shampoo_submission"


def test_an_unknown_baseline_is_a_users_error_and_a_damaged_one_a_problem(tmp_path):
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.95])
    logs, rules = read_logs(tmp_path), ruleset("standin")
    with pytest.raises(UserError, match="--baseline=adamw has no usable logs; those have: shampoo"):
        judge(logs, rules, "adamw", where=tmp_path)
    (tmp_path / "adamw").mkdir()
    judged = judge(logs, rules, "adamw", where=tmp_path, resamples=10)
    assert judged.baseline is None
    assert judged.problems[0].reason == "no usable logs of adamw; no ratios to it"


def test_a_baseline_that_a_table_had_is_a_problem(tmp_path):
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.95])
    logs = read_logs(tmp_path)
    table = tmp_path / "evaluations.csv"
    damaged = Problem(table, "adamw/study_0/mnist_vit_jax/trial_1: line 3: bad; left out")
    logs = Logs(logs.frame, [damaged])
    judged = judge(logs, ruleset("standin"), "adamw", where=table, resamples=10)
    assert judged.baseline is None
