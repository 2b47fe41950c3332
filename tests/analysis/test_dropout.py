import math

import pytest

from analysis import dropout, factors, scoring, sections, sheet, style, tables
from analysis.logs import read_logs
from tests.analysis.conftest import judge_folder, rows_of
from tests.analysis.made_up import write_trial

HIT, MISS = [0.5, 0.95], [0.5, 0.6]
# Trial numbers by entry: dropout rate, seconds per step, values.


def _write(root, **entries):
    for entry, trials in entries.items():
        for trial, (rate, pace, values) in trials.items():
            point = {"learning_rate": 0.1} | ({} if rate is None else {"dropout_rate": rate})
            for study in range(3):
                write_trial(
                    root, entry, "mnist_vit", study, trial, values,
                    seconds_per_step=pace, hyperparameters=point,
                )  # fmt: skip
    return root


def _cost(root):
    trials = scoring.score_trials(read_logs(root).frame)
    assert scoring.score_workloads(trials, "absent")["steady_cost_ratio"].isna().all()
    table = scoring.score_workloads(trials, "adamw")
    return table.set_index("submission").loc["shampoo"]


def _judge(root, shampoo, adamw):
    return judge_folder(_write(root, shampoo=shampoo, adamw=adamw), "adamw")


def _row(judged, entry):
    (row,) = [row for row in rows_of(tables.summary_table(judged)) if row[1] == entry]
    return row


def test_costs_are_compared_within_a_rate(tmp_path):
    # Dropout doubles the cost of a step; Shampoo's own is 1.5 times AdamW's at 0, 1.2 at 0.1.
    adamw = {1: (0.1, 0.2, HIT), 2: (0.1, 0.2, MISS), 3: (0.0, 0.1, MISS)}
    shampoo = {1: (0.0, 0.15, HIT), 2: (0.0, 0.15, MISS), 3: (0.1, 0.24, MISS)}
    row = _cost(_write(tmp_path, adamw=adamw, shampoo=shampoo))
    assert row["pace_ratio"] == pytest.approx(0.75)
    assert row["steady_cost_ratio"] == pytest.approx(1.35)


def test_rates_of_one_entry_alone_do_not_count(tmp_path):
    adamw = {1: (0.1, 0.2, HIT), 2: (0.2, 0.9, MISS)}
    shampoo = {1: (0.0, 0.15, HIT), 2: (0.1, 0.3, MISS)}
    row = _cost(_write(tmp_path, adamw=adamw, shampoo=shampoo))
    assert row["steady_cost_ratio"] == pytest.approx(1.5)


@pytest.mark.parametrize("rates", [(None, None), (0.1, None), (None, 0.0), (0.1, 0.1)])
def test_logs_without_rates_or_with_one_are_compared_whole(tmp_path, rates):
    adamw = {1: (rates[0], 0.1, HIT), 2: (rates[0], 0.2, MISS), 3: (rates[0], 0.4, MISS)}
    row = _cost(_write(tmp_path, adamw=adamw, shampoo={1: (rates[1], 0.3, HIT)}))
    assert row["steady_cost_ratio"] == row["pace_ratio"] == pytest.approx(1.5)


def test_without_a_common_rate_there_is_a_dash_and_no_factor(tmp_path):
    judged = _judge(tmp_path, {1: (0.0, 0.15, HIT)}, {1: (0.1, 0.2, HIT)})
    (row,) = judged.intervals.ratios.query("submission == 'shampoo'").itertuples()
    assert math.isnan(row.step_cost_ratio) and row.steps_ratio == 1
    assert row.ratio == pytest.approx(0.75)
    assert "150.00 (–)" in _row(judged, "Shampoo")
    assert "200.00 (1.00)" in _row(judged, "AdamW")
    assert factors.factor_plot(judged) is None


def test_the_report_names_where_dropout_differs(tmp_path):
    adamw = {1: (0.1, 0.2, HIT), 2: (0.0, 0.1, MISS)}
    judged = _judge(tmp_path, {1: (0.0, 0.15, HIT)}, adamw)
    (note,) = tables.dropout_notes(judged)
    said = "mnist_vit: the best trials of Shampoo drop out at 0, AdamW's at 0.1;"
    assert note.startswith(said)
    text = sections.report(judged, "", [], [])
    assert f"- {note}" in text and "the cost ratio is formed at one dropout\nrate" in text
    # The factor is the cost at the rate that both ran, not that of the best trials.
    ratios = judged.intervals.ratios.set_index("submission").loc["shampoo"]
    assert ratios["step_cost_ratio"] == pytest.approx(1.5)
    assert ratios[["cost_low", "cost_high"]].isna().all()
    assert ratios["ratio"] == pytest.approx(0.75)
    figure = factors.factor_plot(judged)
    title = figure.legends[0].get_title().get_text()
    assert "at one rate" in title and "left out" not in title


def test_figures_say_on_how_many_workloads_steps_are_compared_at_one_rate(tmp_path):
    _write(tmp_path, shampoo={1: (0.0, 0.15, HIT)}, adamw={1: (0.1, 0.2, HIT)})
    for entry, pace in (("shampoo", 0.3), ("adamw", 0.2)):
        for study in range(3):
            write_trial(
                tmp_path, entry, "flights_dlrm", study, 1, [0.6, 0.1],
                seconds_per_step=pace, hyperparameters={"dropout_rate": 0.0},
            )  # fmt: skip
    judged = judge_folder(tmp_path, "adamw")
    figure = factors.factor_plot(judged)
    assert "left out" in figure.legends[0].get_title().get_text()
    drawn = sheet.summary_sheet(judged, style.entry_styles(judged.entries))
    texts = [text.get_text() for axes in drawn.axes for text in axes.texts]
    assert "on 2, × on 1" in texts


@pytest.mark.parametrize("rates", [(None, None), (0.1, 0.1), (None, 0.1)])
def test_one_rate_changes_no_report(tmp_path, rates):
    judged = _judge(tmp_path, {1: (rates[0], 0.15, HIT)}, {1: (rates[1], 0.2, HIT)})
    assert tables.dropout_notes(judged) == [] and not judged.dropout
    assert "dropout" not in sections.report(judged, "", [], [])
    ratios = judged.intervals.ratios.set_index("submission").loc["shampoo"]
    assert ratios["step_cost_ratio"] == pytest.approx(0.75) == ratios["cost_low"]


def test_odd_points_name_no_rate():
    texts = ('{"dropout_rate":true}', '{"dropout_rate":"0.1"}', '{"learning_rate":1}', "[1]", "")
    assert all(math.isnan(dropout.rate_of(text)) for text in texts)
