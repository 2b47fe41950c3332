"""The table of resumed runs says when state was lost, and what was refused."""

import pytest
import torch

from common import documents
from tests.submission.shampoo import ranks
from tests.trainers import problem, resume, torch_alone


@pytest.mark.parametrize("method", problem.METHODS)
def test_lost_state_shows(tmp_path, method):
    whole, resumed = torch_alone.ends(method, tmp_path)
    assert problem.largest_difference(resumed, whole) == 0
    whole, resumed = torch_alone.ends(method, tmp_path, lost=True)
    assert problem.largest_difference(resumed, whole) > 0.01


def test_rows_name_differences_and_refusals():
    whole, moved = [torch.ones(2)], [torch.ones(2) + 1e-3]
    ends = {"shampoo": (whole, whole), "soap": (whole, moved), "kl_shampoo": None}
    route = resume.Route("a", "b", "c", lambda method, folder: ends[method])
    (row,) = resume.rows([route])
    assert list(row.values()) == ["a", "b", "c", "bitwise", "1.0e-03", "refused"]
    assert documents.table([row]) in resume.document([row], {"torch": "2"})


def test_parameters_may_be_exchanged_for_sharded_ones():
    exchanged, expected = (
        ranks.run(2, torch_alone.exchanged, exchange)[0] for exchange in (True, False)
    )
    for method in problem.METHODS:
        assert problem.largest_difference(exchanged[method], expected[method]) == 0
