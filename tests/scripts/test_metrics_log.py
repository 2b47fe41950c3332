"""CSV files: whole, and readable or named as damaged."""

import numpy as np
import pytest

from common.cli import UserError
from scripts.local.metrics_log import MetricsLog, read_csv, read_evaluations


def test_rows_with_different_columns_share_a_file(tmp_path):
    log = MetricsLog(tmp_path)
    log.append_scalar_metrics({"loss": np.float32(0.5)}, 1)
    log.append_scalar_metrics({"score": 1 / 3, "validation/loss": float("nan")}, 1, is_eval=True)
    assert not list(tmp_path.iterdir())
    log.write()
    assert (tmp_path / "measurements.csv").read_text().splitlines() == [
        "global_step,loss,preemption_count,score,validation/loss",
        "1,0.5,0,,",
        "1,,0,0.3333333333333333,nan",
    ]
    assert [row["score"] for row in read_evaluations(tmp_path)] == [1 / 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("global_step,loss\n1,2\n", "lacks column 'score'"),
        ("global_step,score\n1,2\n3\n", "line 3"),
        ("global_step,score\n1,2\n\n2,3\n", "line 3 has 0 of 2"),
        ("global_step,score,score\n1,2,3\n", "has column 'score' twice"),
        ("global_step,score\n1,2,3\n", "line 2"),
        ("global_step,score\n1,x\n", "line 2"),
        ("global_step,score\n", "does not increase"),
        ("global_step,score\n2,2\n2,3\n", "does not increase"),
        ("global_step,score\n2,2\n1,3\n", "does not increase"),
        ("global_step,score\nnan,2\n", "whole number"),
        ("global_step,score\n1,2\n2.5,3\n", "whole number"),
        ("global_step,score\n1,2\n2,3.25", "is truncated"),
        ('global_step,score\n1,"2\n', "damaged"),
    ],
)
def test_damaged_evaluations_are_named(tmp_path, content, message):
    path = tmp_path / "eval_measurements.csv"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_evaluations(tmp_path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_a_missing_metric_is_named(tmp_path):
    (tmp_path / "eval_measurements.csv").write_text("global_step,score,test/loss\n1,2,3\n")
    assert len(read_evaluations(tmp_path, ["test/loss"])) == 1
    with pytest.raises(UserError, match=r"eval_measurements\.csv.*lacks column 'validation/loss'"):
        read_evaluations(tmp_path, ["test/loss", "validation/loss"])


def test_binary_and_missing_tables_are_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00global_step")
    for name in ("a.csv", "b.csv"):
        with pytest.raises(UserError, match=name):
            read_csv(tmp_path / name, ["global_step"])
