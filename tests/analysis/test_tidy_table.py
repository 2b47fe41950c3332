import gzip
import math

import numpy as np
import pandas as pd
import pytest

from analysis.logs import read_logs
from common.cli import UserError
from tests.analysis.made_up import write_trial

HEADER = "submission,study,workload,framework,trial,global_step,score,total_duration,metric_name"
COLUMNS = f"{HEADER},val_metric"


def _rows(trial, values, workload="mnist_vit", metric="accuracy"):
    """Lines of one trial, one evaluation of 20 steps and 2 s per value."""
    return [
        f"adamw,0,{workload},jax,{trial},{20 * e},{2 * e},{3 * e},{metric},{value}"
        for e, value in enumerate(values, start=1)
    ]


def _write(path, *trials, end="\n"):
    lines = [COLUMNS, *(line for trial in trials for line in trial)]
    text = ("\n".join(lines) + end).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_reads_the_leaderboards_columns(tmp_path, suffix):
    # Trials out of order, NaN written in both ways.
    table = _write(tmp_path / f"x{suffix}", _rows(2, [0.5, "nan", 0.91]), _rows(1, ["", 0.9]))
    read = read_logs(table)
    frame = read.frame
    assert frame["trial"].tolist() == [1, 1, 2, 2, 2]
    assert frame["global_step"].tolist() == [20, 40, 20, 40, 60]
    assert frame["score"].tolist() == [2, 4, 2, 4, 6]
    assert frame["validation_metric"].fillna(-1).tolist() == [-1, 0.9, 0.5, -1, 0.91]
    assert set(frame["framework"]) == {"jax"} and set(frame["hyperparameters"]) == {""}
    assert frame["finished"].all()
    missing = "evaluations have no validation metric; these count as missed"
    assert [str(problem) for problem in read.problems] == [
        f"{table}: adamw/study_0/mnist_vit_jax/trial_1: 1 of 2 {missing}",
        f"{table}: adamw/study_0/mnist_vit_jax/trial_2: 1 of 3 {missing}",
    ]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_logs_written_as_a_table_read_the_same(tmp_path, suffix):
    for trial, values in ((1, [0.1, 1 / 3]), (10, [0.7, 0.95]), (2, [math.nan, 0.91])):
        write_trial(tmp_path / "logs", "shampoo", "mnist_vit", 1, trial, values)
    write_trial(tmp_path / "logs", "adamw", "stdlib_lm", 0, 1, [7.0, 6.5])
    (tmp_path / "logs/adamw/study_0/stdlib_lm_pytorch/trial_1/checkpoint.pt").touch()
    frame = read_logs(tmp_path / "logs").frame
    assert not frame["finished"].all()
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_logs(path).frame, frame)


def test_numbers_are_read_to_the_last_digit(tmp_path):
    values = np.random.default_rng(0).random(200).tolist()
    table = _write(tmp_path / "x.csv", _rows(1, [repr(value) for value in values]))
    assert read_logs(table).frame["validation_metric"].tolist() == values


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("adamw,0,mnist_vit,jax,2,20,fast,3,accuracy,0.5", "is damaged: line 3: score is 'fast'"),
        ("adamw,0,mnist_vit,jax,2,,2,3,accuracy,0.5", "is damaged: line 3: global_step is nan"),
        ("adamw,zero,mnist_vit,jax,1,20,2,3,accuracy,0.5", "is damaged: line 3: study is 'zero'"),
        ("adamw,0,mnist_vit", "line 3 has 3 of 10 columns"),
        ("", "line 3 has 0 of 10 columns"),
    ],
)
def test_a_damaged_row_is_named_by_its_line(tmp_path, line, reason):
    rows = _rows(1, [0.5, 0.6])
    table = _write(tmp_path / "x.csv", rows[:1], [line], rows[1:])
    with pytest.raises(UserError, match=f"{table} {reason}"):
        read_logs(table)


def test_other_workloads_and_metrics_are_left_out(tmp_path):
    table = _write(
        tmp_path / "x.csv",
        _rows(1, [0.5, 0.6], metric="validation/accuracy"),
        _rows(1, [0.5, 0.6], workload="mnist"),
        _rows(1, [0.5, 0.6], workload="moon_landing"),
        _rows(1, [0.5, 0.6], workload="flights_dlrm", metric="ce_loss"),
    )
    read = read_logs(table)
    assert set(read.frame["workload"]) == {"mnist_vit", "mnist"}
    assert [problem.reason for problem in read.problems] == [
        "workload flights_dlrm: metric_name is 'ce_loss' instead of 'loss' in 2 rows; left out",
        "unknown workload 'moon_landing'; left out",
    ]


def test_a_table_that_cannot_be_read_is_a_users_error(tmp_path):
    path = tmp_path / "x.csv"
    for content, message in (
        (b"", "is empty"),
        (b"study,trial,score\n0,1,2\n", "missing columns submission, workload, global_step, val"),
        (f"{COLUMNS}\n".encode(), "no usable trial"),
        (f"{COLUMNS}\nadamw,0,nowhere,jax,1,1,1,1,loss,1\n".encode(), "unknown workload 'nowh"),
        (f"{COLUMNS}\nadamw,0,mnist_vit,jax,1,1,1,1,accuracy,0.5".encode(), "is truncated"),
        (f"{COLUMNS}\n".encode() + b"\xff\n", "is not text"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_logs(path)
    for name in ("x.csv.gz", "x.parquet"):
        (tmp_path / name).write_bytes(gzip.compress(b"no such thing")[:-9])
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            read_logs(tmp_path / name)


@pytest.mark.parametrize("twice", ["score", "validation_metric"])
def test_a_column_twice_is_named(tmp_path, twice):
    table = tmp_path / "x.csv"
    rows = [f"{row},1" for row in _rows(1, [0.5, 0.6])]
    table.write_text("\n".join([f"{COLUMNS},{twice}", *rows, ""]))
    with pytest.raises(UserError, match=r"has column '.*' twice"):
        read_logs(table)


@pytest.mark.parametrize("value", [[1], pd.Timestamp(0), True, b"\xff", "1+2j"], ids=repr)
@pytest.mark.parametrize("name", ["study", "validation_metric"])
def test_odd_types_of_a_parquet_are_told(tmp_path, name, value):
    write_trial(tmp_path / "logs", "adamw", "mnist_vit", 0, 1, [0.5, 0.6])
    frame = read_logs(tmp_path / "logs").frame
    frame[name] = pd.Series([value] * len(frame))
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match=f"{name} is "):
        read_logs(tmp_path / "x.parquet")


def test_categories_and_missing_columns_of_a_parquet_are_read(tmp_path):
    folder = tmp_path / "logs"
    write_trial(folder, "adamw", "mnist_vit", 0, 1, [0.5, 0.6])
    frame = read_logs(folder).frame
    path = tmp_path / "x.parquet"
    frame.astype({"submission": "category", "workload": "category"}).to_parquet(path)
    pd.testing.assert_frame_equal(read_logs(path).frame, frame)


def test_tracks_are_not_mixed(tmp_path):
    lines = [f"{COLUMNS},ruleset"]
    lines += [f"{row},{name}" for name in ("external", "self") for row in _rows(1, [0.5, 0.6])]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"several tracks \(ruleset: external, self\)"):
        read_logs(tmp_path / "x.csv")
