import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch

from common.cli import UserError
from submission.algoperf_api import spec
from workloads import prng
from workloads.standin import stdlib_lm
from workloads.standin.stdlib_lm import CONTEXT, corpus_files, split_of, windows


@pytest.fixture(scope="module")
def lm():
    return stdlib_lm.StdlibLmWorkload()


def test_the_corpus_is_within_budget_and_without_excluded_files():
    files = corpus_files(Path(sysconfig.get_paths()["stdlib"]))
    assert 3e6 < sum(len(content) for _, content in files) <= stdlib_lm.BYTE_BUDGET
    names = [name for name, _ in files]
    assert len(set(names)) == len(names)
    assert not any(set(Path(name).parts) & stdlib_lm.EXCLUDED for name in names)


def test_the_corpus_does_not_depend_on_the_order_of_the_directory(tmp_path, monkeypatch):
    for name in ("a.py", "b.py", "json/c.py", "test/d.py", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {name}\n")
    files = corpus_files(tmp_path)
    assert sorted(files) == [(n, f"# {n}\n".encode()) for n in ("a.py", "b.py", "json/c.py")]
    paths = list(tmp_path.rglob("*.py"))
    monkeypatch.setattr(Path, "rglob", lambda *_: reversed(paths))
    assert corpus_files(tmp_path) == files
    assert corpus_files(tmp_path, byte_budget=len(files[0][1])) == files[:1]


def test_each_file_belongs_to_one_split_and_every_byte_of_it_is_predicted_once(lm):
    files = corpus_files(Path(sysconfig.get_paths()["stdlib"]))
    predicted = {"train": 0, "validation": 0, "test": 0}
    for name, content in files:
        predicted[split_of(name)] += max(0, len(content) - 1)
    masks = {split: table["weights"].sum().item() for split, table in lm.load_tables().items()}
    assert masks == predicted
    assert 0.02 < predicted["validation"] / sum(predicted.values()) < 0.15
    assert 0.02 < predicted["test"] / sum(predicted.values()) < 0.15


@pytest.mark.parametrize("length", [0, 1, 2, CONTEXT, CONTEXT + 1, CONTEXT + 2, 1000])
def test_windows_hold_the_whole_file(length):
    content = bytes(np.random.default_rng(0).integers(1, 256, length, dtype=np.uint8))
    rows, mask = windows(content)
    assert rows.shape == (len(mask), CONTEXT + 1)
    assert bytes(rows[:, 1:][mask == 1]) == content[1:]
    assert bytes(rows[:, :-1][mask == 1]) == content[:-1]


def test_a_byte_s_prediction_sees_only_the_bytes_before_it(lm):
    model, _ = lm.init_model_fn(prng.key(0))
    batch = next(lm._build_input_queue(prng.key(0), "train", "", 2))
    changed = batch | {"inputs": batch["inputs"].clone()}
    changed["inputs"][:, 40:] = 65

    def logits(given):
        return lm.model_fn(model, given, None, spec.ForwardPassMode.EVAL, None, False)[0]

    torch.testing.assert_close(logits(batch)[:, :40], logits(changed)[:, :40])
    assert not torch.allclose(logits(batch)[:, 40:], logits(changed)[:, 40:])


def test_an_interpreter_without_sources_is_named(lm, tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(UserError, match="no Python sources"):
        lm.load_tables()
