"""What the official runner wrote here, killed and resumed, goes through the analysis as it is."""

from pathlib import Path

from analysis.choice import choose_rules
from analysis.logs import read_logs
from analysis.scoring import score_trials

LOGS = Path(__file__).parents[2] / "results" / "official" / "mnist"
ENTRIES = {"adamw", "stacked_shampoo", "stacked_shampoo_self_tuning"}


def test_entries_meet_the_target_after_a_kill():
    logs = read_logs(LOGS)
    assert not logs.problems
    rules, _ = choose_rules(logs)
    assert rules.version == "v1.0"
    trials = score_trials(logs.frame, "v1.0")
    assert set(trials["submission"]) == ENTRIES
    assert trials["reached"].all()
    assert (trials["last_step"] > 1).all()
    assert all((path.parent / "flags_1.json").exists() for path in LOGS.rglob("flags_0.json"))
