"""Made-up facts for every test here, and judgements that many tests only look at."""

import functools

import pytest

from analysis import published
from analysis.choice import choose_rules
from analysis.judgement import judge, judge_trials
from analysis.logs import read_logs
from tests.analysis.made_up import FACTS, LEAGUE_FACTS, write_league, write_study, write_trial
from workloads import registry
from workloads.rulesets import ruleset

RESAMPLES = 50


def rows_of(table):
    """The cells of a Markdown table, its heading first."""
    head, _, *rows = table.splitlines()
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in (head, *rows)]


@pytest.fixture(autouse=True, scope="module")
def known_facts():
    """Targets that don't move when the real ones are set anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_ALL", FACTS)
        yield


def judge_folder(root, baseline=None):
    """A folder of stand-ins' logs, judged."""
    logs = read_logs(root)
    rules, _ = choose_rules(logs)
    return judge(logs, rules, baseline, where=root, resamples=RESAMPLES)


@functools.cache
def judge_published(version):
    """The published external submissions of a version, judged."""
    trials = published.read_trials(version)
    return judge_trials(trials, ruleset(version), "baseline", resamples=RESAMPLES)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Three entries on three workloads, one of them with a long name and on one workload."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_ALL", FACTS)
        root = write_study(tmp_path_factory.mktemp("small"), trials=2)
        write_trial(root, "a_rather_long_name_of_an_entry", "mnist_vit", 0, 1, [0.5, 0.95])
        return judge_folder(root, "adamw")


@pytest.fixture(
    scope="session", params=[(2, 9), (14, 9), (14, 2)], ids=lambda size: "{}x{}".format(*size)
)
def league(request, tmp_path_factory):
    """The league in several sizes: entries x workloads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_ALL", LEAGUE_FACTS)
        patch.setattr(registry, "STANDINS", LEAGUE_FACTS)
        root = write_league(tmp_path_factory.mktemp("league"), *request.param)
        return judge_folder(root, "adamw")
