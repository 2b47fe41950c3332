"""Steps divided among processes: what is measured, and how it is summed up."""

import json

import pytest
import torch

from scripts.benchmark import ranks as benchmark_ranks
from submission.shampoo import distributor
from tests.scripts.commands import finish, must_succeed


@pytest.mark.slow
def test_measures_every_case(tmp_path):
    arguments = ["--worlds=2", "--networks=small_200k", "--repeats=1", f"--output={tmp_path}"]
    must_succeed(finish("-m", "scripts.benchmark.ranks", *arguments))
    result = json.loads((tmp_path / "ranks.json").read_text())
    assert [row["mode"] for row in result["rows"]] == ["ddp", "fsdp"]
    for row in result["rows"]:
        assert len(row["divided"]) == row["world"] == 2
        assert all(0 < rank["communication"] < rank["wall"] for rank in row["divided"])
        assert min(row["bytes_sent"]) > 0
    text = (tmp_path / "ranks.md").read_text()
    assert text == benchmark_ranks.table(result["settings"], result["rows"])


def test_ratios_are_of_medians_and_of_the_slowest_rank():
    def sample(scale):
        return {"wall": 4 * scale, "cpu": 3 * scale, "thread": 2 * scale, "communication": scale}

    alone = [sample(scale) for scale in (1.0, 2.0, 30.0)]
    case = benchmark_ranks.summarize(
        [
            {"alone": alone, "divided": [sample(1.0)], "bytes_sent": 1},
            {"alone": [], "divided": [sample(3.0)], "bytes_sent": 2},
        ]
    )
    assert case["own_work"] == case["wall"] == 1.5
    assert case["all_cpu"] == 2.0
    assert case["communication_share"] == pytest.approx(1 / 4)
    assert case["communication_cpu"] == pytest.approx(1 / 2)
    assert case["alone"]["wall"] == 8.0


def test_timing_collectives_leaves_them_as_they_were():
    before = distributor._all_gather, torch.distributed.all_to_all_single
    with benchmark_ranks.communication_timed() as spent:
        assert distributor._all_gather is not before[0]
    assert (distributor._all_gather, torch.distributed.all_to_all_single) == before
    assert spent == []
