"""What all commands do with flags and errors."""

import pytest

from tests.scripts.commands import finish, must_succeed

COMMAND = """
import errno, os, signal, sys
from absl import flags
from common import cli
from scripts.local import supervisor
flags.DEFINE_string("output", "out", "")
flags.DEFINE_string("note", "", "")
flags.DEFINE_list("only", [], "")
flags.DEFINE_float("share", 0.5, "")
flags.DEFINE_bool("loud", False, "")
def main(argv):
    if flags.FLAGS.only == ["full"]:
        raise OSError(errno.ENOSPC, "No space left on device", "/a/file")
    if flags.FLAGS.only == ["bug"]:
        raise OSError(errno.EBADF, "Bad file descriptor")
    if flags.FLAGS.only == ["SIGTERM"]:
        with supervisor.exit_on_sigterm():
            signal.raise_signal(signal.SIGTERM)
    if flags.FLAGS.only == ["SIGINT"]:
        signal.raise_signal(signal.SIGINT)
    print("\\udcff", flags.FLAGS.output)
cli.run(main, may_be_empty=["note"])
"""


@pytest.mark.parametrize(
    ("given", "code", "out", "error"),
    [
        ([], 0, "\\udcff out\n", ""),
        (["--note=", "--only="], 0, "\\udcff out\n", ""),
        (["--output="], 2, "", "error: --output= is empty"),
        (["--output= "], 2, "", "error: --output= "),
        (["--outptu=x"], 2, "", "Did you mean: output"),
        (["--share=x"], 2, "", "error: --share=x: must be a number (--help"),
        (["--share=nan"], 2, "", "error: --share=nan: must be a finite number (--help"),
        (["--loud=x"], 2, "", "error: --loud=x: must be true or false (--help"),
        (["--noloud=x"], 2, "", "error: --noloud=x: must be without a value (--help"),
        (["--only=full"], 2, "", "error: /a/file: No space left on device"),
        (["--only=bug"], 1, "", "Traceback"),
        (["--only=SIGTERM"], 143, "", "interrupted; run the same command again to resume\n"),
        (["--only=SIGINT"], 130, "", "interrupted; run the same command again to resume\n"),
    ],
)
def test_one_line_for_a_mistake(given, code, out, error):
    done = finish("-c", COMMAND, *given)
    assert (done.returncode, done.stdout) == (code, out)
    assert error in done.stderr
    assert code != 2 or len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["scripts.run", "scripts.benchmark.step", "analysis.report"])
def test_outside_the_environment_a_command_says_what_to_do(command):
    # Isolated from site-packages.
    done = finish("-S", "-m", command)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "make setup, then . .venv/bin/activate" in line


def test_an_import_of_the_packages_leaves_errors_as_they_are():
    code = "import sys, scripts, analysis; sys.exit(sys.excepthook is not sys.__excepthook__)"
    must_succeed(finish("-S", "-c", code))
