"""The figures of a report, each as PNG and SVG."""

import functools
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from analysis import curves, factors, headline, heat, page, profile_figure, sheet, style
from analysis.judgement import Judgement
from common import files

# The figures that have a version for telephones, and what they show.
HEADLINES = {"time_to_target": "seconds", "steps_to_target": "steps"}
# What each figure shows, by the start of its file's name, in the order of a report.
CAPTIONS = {
    "summary": "Everything on one page.",
    "time_to_target": (
        "Seconds to the target, relative to the baseline and in figures: medians over studies of "
        "each study's best trial."
    ),
    "steps_to_target": "The same in steps, which hardly depend on the machine.",
    "factors": (
        "Where wins and losses come from: time is steps times seconds per step. To the left of 1 "
        "an entry needs fewer steps, above 1 its steps cost more."
    ),
    "step_cost": (
        "What a step costs once it runs: over whole trials, after the first evaluation, which "
        "leaves out compilation."
    ),
    "performance_profiles": (
        "The share of workloads on which an entry's time is within a factor of the fastest "
        "entry's; the score is the mean over factors from 1 to 4. Shaded: 95% intervals by "
        "bootstrap over studies."
    ),
    "learning_curves": (
        "Learning curves show the one point of each entry whose median over studies has fewest "
        "steps or, where all medians miss, comes nearest to the target, so its numbers can be "
        "larger than those of the table, for which each study picks its own best."
    ),
}


def draw(judged: Judgement, directory: Path) -> list[Path]:
    """Draws and saves every figure that there is something to show in.

    Args:
      judged: the logs' judgement.
      directory: where the files go, created if it is missing. Figures of an earlier report that is
        not drawn now are removed.

    Returns:
      The files, in the order of CAPTIONS, the learning curves in that of the workloads.
    """
    files.make_directory(directory)
    styles = style.entry_styles(judged.entries)
    made: dict[str, Callable[[], Figure | None]] = {
        "summary": lambda: sheet.summary_sheet(judged, styles),
        **{
            stem: functools.partial(headline.headline, judged, column, styles)
            for stem, column in HEADLINES.items()
        },
        "factors": lambda: factors.factor_plot(judged),
        "step_cost": lambda: heat.step_cost(judged),
        "performance_profiles": lambda: profile_figure.performance_profiles(judged, styles),
    }
    for workload in judged.facts:
        made[f"learning_curves_{workload}"] = functools.partial(
            curves.learning_curves, judged, workload, styles
        )
    paths: list[Path] = []
    for stem, make in made.items():
        figure = make()
        if figure is not None:
            paths.extend(style.save(figure, directory, stem))
            if stem in HEADLINES:
                slim = headline.headline(judged, HEADLINES[stem], styles, narrow=True)
                assert slim is not None
                paths.extend(style.save(slim, directory, stem + page.NARROW, ["svg"]))
    for old in directory.iterdir():
        if old not in paths and old.stem.startswith(tuple(CAPTIONS)):
            old.unlink()
    return paths
