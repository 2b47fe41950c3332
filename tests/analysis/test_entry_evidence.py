"""What the entries' READMEs argue for v1.0, and the arithmetic of their tables."""

import pytest
import torch

from analysis import entry_evidence, entry_plans
from scripts.benchmark import model_shapes
from submission.algoperf_api.pytorch_schedules import WarmupCosineLR
from submission.entries.shampoo_self_tuning.submission import POINT
from tests.analysis.conftest import rows_of
from workloads import registry
from workloads.rulesets import ruleset

BASE = ruleset("v1.0").base_workloads


def test_paces_are_of_submissions_in_pytorch_with_the_baselines_batches():
    pace = entry_evidence.seconds_per_step()
    assert len(pace) == 6 and not {"schedule_free_adamw", "nadamw"} & set(pace.index)


def test_estimates_scale_with_the_batch_and_add_the_optimizer():
    pace = entry_evidence.seconds_per_step()
    for workload, share in (("librispeech_conformer", 200 / 256), ("finewebedu_lm", 1.0)):
        extra = entry_plans.added_seconds(workload)
        assert extra > 0
        expected = pace[workload].median() * share + extra
        assert entry_evidence.estimate(workload) == pytest.approx(expected)
    steps = entry_evidence.steps_in_time("wmt", 0.98)
    assert steps * entry_evidence.estimate("wmt") == pytest.approx(0.98 * 16114)


@pytest.mark.parametrize("workload", BASE)
def test_schedules_end_within_both_budgets_at_the_estimated_pace(workload):
    rules = {name: ruleset("v1.0", name) for name in ("external", "self_tuning")}
    external = rules["external"].budget_seconds(workload)
    points = entry_plans.external_points()
    cases = [(point, external) for point in points]
    cases.append((POINT, rules["self_tuning"].budget_seconds(workload)))
    hint, pace = registry.facts(workload, "v1.0").step_hint, entry_evidence.estimate(workload)
    for point, budget in cases:
        steps = int(point.step_hint_factor * hint)
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        schedule = WarmupCosineLR(
            optimizer, steps, point.warmup_factor, point.budget_factor * external
        )
        shape = schedule.lr_lambdas[0]
        in_time = int(0.99 * budget / pace)
        schedule.observe(in_time * pace)
        assert shape(in_time) == 0, "while there is time for one more evaluation"
        early = int(min(0.5 * steps, 0.4 * budget / pace))
        fresh = type(shape)(shape.warmup_steps, steps, early * pace / schedule.seconds)
        assert fresh(early) > 0.3


def test_point_1_has_the_settings_of_the_fastest_nadamw():
    rate, beta1, beta2, decay, warmup, smoothing = entry_evidence._SETTINGS["nadamw_baselinev05"]
    for point in (entry_plans.external_points()[0], POINT):
        assert point.learning_rate == pytest.approx(rate, rel=1e-5)
        assert point.one_minus_beta1 == pytest.approx(beta1, rel=1e-5)
        assert point.one_minus_beta2 == pytest.approx(beta2, rel=1e-5)
        assert point.weight_decay == pytest.approx(decay, rel=1e-5)
        assert (point.warmup_factor, point.label_smoothing) == (warmup, smoothing)


@pytest.mark.parametrize("workload", ["ogbg", "finewebedu_lm"])
def test_state_of_all_ranks_is_what_the_optimizer_says_of_itself(workload):
    said = repr(entry_plans.optimizer(workload)).split("state on all ranks: ")[1].split("B;")[0]
    number, prefix = said.split()
    total = float(number) * {"M": 1e6, "G": 1e9}[prefix]
    plan = entry_plans.plan(workload, "v1.0")
    state, averages = plan["state"], plan["memory"]["averages"]  # the latter on every rank alike
    assert 4 * state["mean"] + averages == pytest.approx(total, rel=0.01)
    assert state["max"] < 1.2 * state["mean"]


def test_what_fits_8_v100_fits_4_a100():
    for workload in ruleset("v0.6").base_workloads:
        newer, older = (entry_plans.plan(workload, version) for version in ("v1.0", "v0.6"))
        assert newer["memory_total"] < 2 * older["memory_total"]
        assert older["memory_total"] < 0.85 * 16e9
    memory = entry_plans.plan("finewebedu_lm", "v1.0")
    assert memory["memory_total"] < 0.2 * 40e9


def test_tables_of_documents_name_every_embedding():
    rows = rows_of(entry_plans.embedding_table())[1:]
    assert [row[0] for row in rows] == ["criteo1tb", "finewebedu_lm", "wmt"]
    shapes = model_shapes.shapes("finewebedu_lm")
    assert shapes["embed_tokens.weight"] == (50257, 1024)
    assert not [name for name in shapes if "head" in name], "tied"
