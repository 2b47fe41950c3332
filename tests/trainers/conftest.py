"""Modules that need a trainer are imported by the tests that have looked for it."""

collect_ignore_glob = ["with_*.py"]
