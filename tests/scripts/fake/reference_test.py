"""In place of the benchmark's reference test: fails on ogbg, hangs on wmt, else passes."""

import sys
import time
from importlib.util import find_spec
from pathlib import Path

settings = dict(flag.removeprefix("--").split("=", 1) for flag in sys.argv[1:])
sys.path.insert(0, str(Path.cwd()))
print("flags", sorted(settings.items()), flush=True)
if settings["workload"] == "ogbg":
    raise ValueError("a tensor of the wrong size")
if settings["workload"] == "wmt":
    time.sleep(50)
spec = find_spec(settings["submission_path"].removesuffix(".py").replace("/", "."))
print("would import", spec.origin if spec else None)
