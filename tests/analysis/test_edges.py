"""Which chosen hyperparameters are told to lie at an end of their range."""

import csv
import json

from analysis import edges


def test_values_at_an_end_are_found_by_entry_and_hyperparameter(tmp_path):
    rate = {"min": 0.001, "max": 0.1, "scaling": "log"}
    ranges = {"adamw": {"learning_rate": rate, "warmup_factor": {"feasible_points": [0.1]}}}
    path = tmp_path / "best.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["entry", "workload", "hyperparameters"])
        for workload, value in (("mnist_vit", 0.099), ("stdlib_lm", 0.01), ("django_wmt", 0.098)):
            point = {"learning_rate": value, "warmup_factor": 0.1}
            writer.writerow(["adamw", workload, json.dumps(point)])
    assert edges.chosen_at_ends(ranges, path) == {
        ("adamw", "learning_rate", "highest"): [("mnist_vit", 0.099), ("django_wmt", 0.098)]
    }


def test_a_linear_range_is_measured_on_its_own_scale():
    linear = {"min": 0.0, "max": 1.0, "scaling": "linear"}
    assert [edges.end_of(linear, value) for value in (0.01, 0.1, 0.96)] == ["lowest", "", "highest"]
