"""What documents say of the measured costs of a step."""

import json

from analysis import step_costs


def test_rows_are_found_by_network_and_optimizer(tmp_path):
    path = tmp_path / "cpu.json"
    path.write_text(json.dumps({"vit_s16": {"rows": [{"optimizer": "adamw", "state_bytes": 8}]}}))
    assert step_costs.rows(path)["vit_s16"]["adamw"]["state_bytes"] == 8


def test_sizes_and_ratio_of_states_agree():
    low, *high = map(float, step_costs.state_ratio().split(" to "))
    for text in step_costs.state_sizes().split(", "):
        own, other = (float(part.split()[0]) for part in text.split(" against "))
        assert low - 0.1 < own / other < max([low, *high]) + 0.1
