"""What documents say of the league's code, from its manifest."""

import json

from analysis import caveats


def test_the_study_s_code_is_that_of_its_manifest(tmp_path):
    runs = [
        {"command": "-m scripts.study", "started": "2026-01-02T03", "git_commit_hash": "a" * 40},
        {"command": "-m scripts.league.cost", "started": "2026-01-03", "git_commit_hash": "b" * 40},
    ]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"invocations": runs}))
    assert caveats.study_run_text(path) == "on 2026-01-02, at the code of commit aaaaaaaa"
