"""The notebook as it is committed, and run on small data in a kernel of its own."""

from pathlib import Path

import nbformat
import pandas as pd
import pytest

from analysis import notebook
from common.cli import UserError

ROOT = Path(__file__).resolve().parents[2]


def _published(folder: Path) -> Path:
    """Three submissions on two workloads of version 0.5, two each of versions 0.6 and 1.0."""
    table = pd.read_csv(ROOT / "results" / "published" / "trials.csv.gz")
    names = ["baseline", "shampoo", "shampoo_submission", "cyclic_lr", "nadamw", "lion"]
    keep = table["submission"].isin(names) & table["workload"].isin(["ogbg", "fastmri"])
    folder.mkdir()
    table[keep].to_csv(folder / "trials.csv.gz", index=False)
    return folder


@pytest.mark.slow
def test_the_notebook_runs_on_small_data(tmp_path: Path) -> None:
    run = notebook.read()
    (parameters,) = [cell for cell in run.cells if "parameters" in cell.metadata.get("tags", [])]
    for name, value in {"PUBLISHED": str(_published(tmp_path / "p")), "RESAMPLES": 20}.items():
        assert f"\n{name} = " in f"\n{parameters.source}"
        parameters.source += f"\n{name} = {value!r}"
    notebook.execute(run)
    outputs = [output for cell in run.cells for output in cell.get("outputs", [])]
    assert {output["output_type"] for output in outputs} == {"display_data"}
    kinds = [kind for output in outputs for kind in output["data"]]
    assert "image/png" in kinds and "text/markdown" in kinds
    message = "\n".join(output["data"].get("text/markdown", "") for output in outputs)
    assert "nan" not in message.split()


def test_the_committed_notebook_is_that_of_one_run() -> None:
    committed = notebook.read()
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output["output_type"] for output in outputs} == {"display_data"}
    assert str(ROOT) not in nbformat.writes(committed)


def test_prose_has_no_typed_results() -> None:
    cells = notebook.read().cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    # Versions are names.
    for name_of_version in ("0.5", "0.6", "1.0", "V100", "A100"):
        prose = prose.replace(name_of_version, "")
    assert not any(character.isdigit() for character in prose)


def test_a_cell_that_fails_is_told() -> None:
    failing = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    with pytest.raises(UserError, match="ipynb: ZeroDivisionError: division by zero"):
        notebook.execute(failing)
