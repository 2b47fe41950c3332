import numpy as np
import pandas as pd
import pytest

from analysis import sensitivity
from analysis.logs import read_logs
from analysis.scoring import score_trials
from analysis.style import entry_styles
from common.cli import UserError
from tests.analysis.looks import flaws
from tests.analysis.made_up import write_trial

COLUMNS = ["workload", "entry", "trial", "best_validation", "steps_to_target", "learning_rate"]


def _write(path, rows):
    pd.DataFrame(rows, columns=COLUMNS).assign(warmup=0.1).to_csv(path, index=False)
    return path


def test_losses_rank_by_steps_then_by_the_miss(tmp_path):
    rows = [
        ("mnist_vit", "adamw", 1, 0.81, None, 0.1),
        ("mnist_vit", "adamw", 2, 0.91, 400, 0.2),
        ("mnist_vit", "adamw", 3, 0.95, 200, 0.3),
        ("mnist_vit", "adamw", 4, None, None, 0.4),
        ("flights_dlrm", "adamw", 1, 0.44, None, 0.1),
    ]
    search = sensitivity.read_search(_write(tmp_path / "search.csv", rows))
    assert search["gap"].tolist() == pytest.approx([0.1, -1 / 90, -5 / 90, np.inf, 0.1])
    order = search[search["workload"] == "mnist_vit"].sort_values("loss")["trial"]
    assert order.tolist() == [3, 2, 1, 4]


def test_only_what_varies_is_a_hyperparameter(tmp_path):
    rows = [("mnist_vit", "adamw", trial, 0.5, None, trial / 10) for trial in (1, 2)]
    search = sensitivity.read_search(_write(tmp_path / "search.csv", rows))
    assert sensitivity.hyperparameters(search) == ["learning_rate"]


def test_points_are_counted_and_paired(tmp_path):
    rows = [
        ("mnist_vit", "adamw", 1, 0.95, 300, 0.1),
        ("mnist_vit", "adamw", 2, 0.5, None, 0.2),
        ("mnist_vit", "adamw", 3, 0.8, None, 0.3),
        ("mnist_vit", "shampoo", 1, 0.95, 200, 0.1),
        ("mnist_vit", "shampoo", 2, 0.5, None, 0.2),
        ("mnist_vit", "shampoo", 3, 0.7, None, 0.3),
    ]
    search = sensitivity.read_search(_write(tmp_path / "search.csv", rows))
    assert sensitivity.reach_counts(search).to_numpy().tolist() == [
        ["adamw", 3, 1],
        ["shampoo", 3, 1],
    ]
    assert sensitivity.paired_wins(search, "shampoo", "adamw") == (1, 1, 1)


def test_a_correlation_that_is_there_exceeds_chance(tmp_path):
    generator = np.random.default_rng(0)
    rows = [
        ("mnist_vit", entry, trial, 0.5 + value / 100, None, trial)
        for entry, values in (("adamw", range(1, 13)), ("nadamw", generator.permutation(12)))
        for trial, value in enumerate(values, start=1)
    ]
    search = sensitivity.read_search(_write(tmp_path / "search.csv", rows))
    table = sensitivity.rank_correlations(search).set_index("entry")
    # Higher accuracies are better, so larger values go with smaller losses.
    assert table.loc["adamw", "correlation"] == pytest.approx(-1)
    assert 0.4 < table.loc["adamw", "threshold"] < 0.7
    assert abs(table.loc["nadamw", "correlation"]) < 0.6


def test_too_few_points_have_no_correlation(tmp_path):
    rows = [("mnist_vit", "adamw", trial, 0.5, None, trial) for trial in (1, 2)]
    search = sensitivity.read_search(_write(tmp_path / "search.csv", rows))
    assert sensitivity.rank_correlations(search).empty


def test_the_points_that_win_are_counted(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95])
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 3, [0.95])
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 1, [0.5])
    won = sensitivity.points_won(score_trials(read_logs(tmp_path).frame))
    assert won.to_dict("records") == [
        {"workload": "mnist_vit", "submission": "adamw", "point 3": 1, "missed": 1}
    ]


def test_the_search_is_drawn(tmp_path):
    rows = [
        (workload, entry, trial, 0.5 + trial / 10, None, trial)
        for workload in ("mnist_vit", "flights_dlrm", "stdlib_lm")
        for entry in ("adamw", "shampoo")
        for trial in (1, 2, 3)
    ]
    search = sensitivity.read_search(_write(tmp_path / "search.csv", rows))
    figure = sensitivity.search_figure(search, entry_styles(["adamw", "shampoo"]))
    assert len(figure.axes) == 3
    assert flaws(figure) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "missing columns workload, entry"),
        ("", "cannot read"),
        (f"{','.join(COLUMNS)}\nmnist_vit,adamw,1,x,20,1\n", "best_validation is not always a nu"),
    ],
)
def test_another_table_is_a_users_error(tmp_path, content, message):
    path = tmp_path / "search.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        sensitivity.read_search(path)
