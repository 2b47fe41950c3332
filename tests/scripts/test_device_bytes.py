"""The command counts bytes without computing anything, so that what is committed can be checked."""

import pytest

from common import files
from scripts.local.environment import ROOT
from tests.scripts.commands import finish, must_refuse, must_succeed


def test_the_committed_bytes_are_those_of_today(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed: requirements-jax.txt")
    flags = ["--networks=vit_s16", "--devices=1,8", f"--output={tmp_path}"]
    must_succeed(finish("-m", "scripts.benchmark.device_bytes", *flags))
    found = files.read_json(tmp_path / "device_bytes.json")["vit_s16"]
    committed = files.read_json(ROOT / "results" / "jax" / "device_bytes.json")["vit_s16"]
    assert found == {count: committed[count] for count in ("1", "8")}


def test_an_unknown_network_ends_in_one_line(tmp_path):
    flags = ["--networks=vit_s17", f"--output={tmp_path}"]
    line = must_refuse(finish("-m", "scripts.benchmark.device_bytes", *flags))
    assert line.startswith("error: --networks: vit_s17; allowed: ")
