import math
from pathlib import Path

import pandas as pd

from analysis import points
from analysis.logs import read_logs
from analysis.scoring import score_trials
from tests.analysis.made_up import write_trial

INF = math.inf


def test_the_best_point_has_fewest_steps_then_seconds_then_the_lowest_number() -> None:
    columns = ["submission", "workload", "trial", "study", "reached", "steps", "seconds"]
    rows = [
        ("adamw", "a", 1, 0, True, 60.0, 9.0),
        ("adamw", "a", 2, 0, True, 40.0, 9.0),
        ("adamw", "a", 3, 0, True, 40.0, 8.0),
        ("adamw", "a", 4, 0, True, 40.0, 8.0),
        ("adamw", "b", 1, 0, False, INF, INF),
        *(
            ("adamw", "b", trial, study, study == 0, *(INF, INF))
            for trial in (2, 3)
            for study in range(3)
        ),
        ("shampoo", "b", 1, 0, False, INF, INF),
        ("shampoo", "b", 2, 0, True, 800.0, 99.0),
    ]
    trials = pd.DataFrame(rows, columns=columns).assign(hyperparameters="")
    table = points.score_points(trials)
    best = table[table["best"]]
    picked = {(row.entry, row.workload): row.trial for row in best.itertuples()}
    assert picked == {("adamw", "a"): 3, ("adamw", "b"): 2, ("shampoo", "b"): 2}


def test_points_name_their_hyperparameters(tmp_path: Path) -> None:
    for study, rate in enumerate((0.1, None, 0.1, 0.2)):
        point = None if rate is None else {"rate": rate}
        for trial in (1, 2) if rate != 0.2 else (2,):
            values = [0.5]
            write_trial(tmp_path, "adamw", "mnist_vit", study, trial, values, hyperparameters=point)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 3, [0.5], hyperparameters=None)
    table = points.score_points(score_trials(read_logs(tmp_path).frame))
    assert table["hyperparameters"].tolist() == [
        '{"rate":0.1}',
        '[{"rate":0.1},{"rate":0.2}]',
        "",
    ]
