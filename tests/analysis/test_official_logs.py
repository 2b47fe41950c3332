"""What the official runner wrote here, killed and resumed, goes through the analysis as it is."""

from pathlib import Path

from analysis.logs import read_logs
from analysis.scoring import score_trials

LOGS = Path(__file__).parents[2] / "results" / "official" / "mnist"


def test_both_entries_meet_the_target_after_a_kill() -> None:
    logs = read_logs(LOGS, "v0.6")
    assert not logs.problems
    trials = score_trials(logs.frame, "v0.6")
    assert set(trials["submission"]) == {"shampoo", "shampoo_self_tuning"}
    assert trials["reached"].all()
    assert (trials["last_step"] > 1).all()
    assert all((path.parent / "flags_1.json").exists() for path in LOGS.rglob("flags_0.json"))
