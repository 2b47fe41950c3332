"""The hours that docs/official.md names for v1.0 follow from published trials and the budgets."""

import csv
import statistics

from common import documents
from scripts.local.environment import ROOT
from workloads import registry, rulesets

TORCH = ("schedule_free_adamw", "schedule_free_adamw_v2")


def test_hours_of_trials_are_those_of_the_published_evaluations():
    with (ROOT / "results/published/hours.csv").open(newline="") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if row["version"] == "v1.0"
            and (row["submission"] in TORCH or row["submission"].startswith("muon_torch"))
        ]
    assert len({row["submission"] for row in rows}) == 6
    listed, total = [], 0.0
    for name in rulesets.ruleset("v1.0").base_workloads:
        facts = registry.official(name, "v1.0")
        evaluation = statistics.median(
            (float(row["median_hours"]) - float(row["median_submission_hours"]))
            / float(row["median_evaluations"])
            for row in rows
            if row["workload"] == name
        )
        budget = facts.max_runtime_seconds / 3600
        hours = budget * (1 + evaluation / (facts.eval_period_seconds / 3600))
        total += 15 * hours
        listed.append(
            {
                "workload": name,
                "budget of a trial": f"{budget:.1f} h",
                "an evaluation": f"{60 * evaluation:.1f} min",
                "a whole trial": f"{hours:.1f} h",
                "all 15 trials": f"{15 * hours:,.0f} h",
                "data on disk": f"{facts.data.size_gib:,.4g} GiB",
            }
        )
    last = dict.fromkeys(listed[0], "") | {"workload": "all", "all 15 trials": f"{total:,.0f} h"}
    table = documents.table([*listed, last])
    assert table in (ROOT / "docs/official.md").read_text("utf-8")
