"""Every notebook, run on small data in a kernel of its own."""

import shutil
from pathlib import Path

import jupytext
import nbformat
import pandas as pd
import pytest

from analysis import notebook
from common.cli import UserError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["hyperparameters", "leaderboard"]


def _logs(folder):
    """Two studies of a workload, from the committed full study: real targets, real numbers."""
    for entry in ("shampoo", "adamw"):
        for study in (1, 2):
            place = Path(entry, f"study_{study}", "stdlib_lm_pytorch")
            shutil.copytree(ROOT / "results" / "league" / place, folder / place)
    return folder


def _published(folder):
    """Three submissions on two workloads of version 0.5, two each of versions 0.6 and 1.0."""
    table = pd.read_csv(ROOT / "results" / "published" / "trials.csv.gz")
    names = ["baseline", "shampoo", "shampoo_submission", "cyclic_lr", "nadamw", "lion"]
    keep = table["submission"].isin(names) & table["workload"].isin(["ogbg", "fastmri"])
    folder.mkdir()
    table[keep].to_csv(folder / "trials.csv.gz", index=False)
    return folder


def _search(path):
    table = pd.read_csv(ROOT / "results" / "league" / "search.csv")
    table[table["trial"] <= 4].to_csv(path, index=False)
    return path


SMALL = {
    "hyperparameters": lambda root: {
        "SEARCH": str(_search(root / "search.csv")),
        "LOGS": str(_logs(root / "logs")),
        "PUBLISHED": str(_published(root / "published")),
    },
    "leaderboard": lambda root: {"PUBLISHED": str(_published(root / "published")), "RESAMPLES": 20},
}


def test_all_notebooks_are_known():
    assert notebook.names() == NAMES == sorted(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebooks_run_on_small_data(name, tmp_path):
    run = notebook.execute(name, SMALL[name](tmp_path))
    outputs = [output for cell in run.cells for output in cell.get("outputs", [])]
    assert {output["output_type"] for output in outputs} == {"display_data"}
    kinds = [kind for output in outputs for kind in output["data"]]
    assert "image/png" in kinds and "text/markdown" in kinds
    message = "\n".join(output["data"].get("text/markdown", "") for output in outputs)
    assert "nan" not in message.split()


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebooks_are_their_texts_with_outputs(name):
    committed = nbformat.read(notebook.FOLDER / f"{name}.ipynb", as_version=4)
    text = notebook.read_text(name)
    assert committed.metadata["jupytext"]["formats"] == notebook.PAIRING
    assert [cell.source for cell in committed.cells] == [cell.source for cell in text.cells]
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output["output_type"] for output in outputs} == {"display_data"}
    assert str(ROOT) not in nbformat.writes(committed)


def test_prose_has_no_typed_results():
    for name in NAMES:
        cells = notebook.read_text(name).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        # Versions are names.
        rest = prose
        for name_of_version in ("0.5", "0.6", "1.0", "V100", "A100"):
            rest = rest.replace(name_of_version, "")
        assert not any(character.isdigit() for character in rest), name


def test_a_cell_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "TEXTS", tmp_path)
    failing = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    jupytext.write(failing, tmp_path / "bad.py", fmt="py:percent")
    with pytest.raises(UserError, match="notebook bad: ZeroDivisionError: division by zero"):
        notebook.execute("bad")


def test_an_unknown_parameter_is_a_users_error():
    with pytest.raises(UserError, match="notebook leaderboard has no parameter 'LOGS'"):
        notebook.execute("leaderboard", {"LOGS": "x"})
