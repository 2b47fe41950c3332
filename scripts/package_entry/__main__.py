"""Writes an entry as the folder that the organisers of the benchmark run.

    python -m scripts.package_entry --entry=shampoo --authors="A. Person" --output=dist
    cd <checkout of the benchmark>
    PYTHONPATH=<here>/dist python submission_runner.py \\
        --submission_path=submissions/external_tuning/shampoo/submission.py ...

The folder has the layout of the repository mlcommons/submissions_algorithms, a clone of which may
be the output. It holds the modules that the entry imports, and imports nothing else of this
repository. The same commit writes the same bytes. What a pull request has to say is printed.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from common import cli
from common.cli import UserError
from scripts.local import environment
from scripts.official.entry import SPACE
from scripts.package_entry.folder import compose, module_of, packable, write

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line."""
    known = ", ".join(packable(environment.ROOT))
    flags.DEFINE_string("entry", None, f"one of {known}")
    flags.DEFINE_string("output", "dist", "folder that `submissions/` is written to")
    flags.DEFINE_string("authors", None, "instead of those in the entry's submission_info.yml")
    flags.DEFINE_string("affiliations", None, "instead of those in the entry's submission_info.yml")
    flags.DEFINE_bool("overwrite", False, "replace a folder even if this did not write it")


def main(argv: Sequence[str]) -> None:
    """Writes the package and says what it is."""
    del argv
    if not FLAGS.entry:
        known = ", ".join(packable(environment.ROOT))
        raise UserError(f"--entry is missing; known: {known}")
    given = {"authors": FLAGS.authors, "affiliations": FLAGS.affiliations}
    overrides = {key: value for key, value in given.items() if value is not None}
    package = compose(environment.ROOT, FLAGS.entry, **overrides)
    facts = environment.describe()
    record = {
        "entry": FLAGS.entry,
        "module": module_of(FLAGS.entry),
        **{key: facts[key] for key in ("git_commit_hash", "git_dirty")},
    }
    folder = write(package, Path(FLAGS.output), record, FLAGS.overwrite)
    print(f"{folder}: {len(package.contents) + 1} files")
    print(f"for the runner, with PYTHONPATH={Path(FLAGS.output).absolute()}:")
    print(f"  --submission_path={package.home}/submission.py")
    if SPACE in package.contents:
        print(f"  --tuning_search_space={folder.absolute()}/{SPACE}")
    else:
        print("  --tuning_ruleset=self")
    print("for the pull request, whose title must hold [submission]:")
    # Its folder is below `submissions/`, which the organisers' workflow puts before it.
    print(f"```yaml\n{package.info.text(package.info.folder(FLAGS.entry))}```")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
