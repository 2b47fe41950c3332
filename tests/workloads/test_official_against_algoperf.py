"""The registry against the workload classes of an installed `algoperf`, value by value.

Skipped where `algoperf` and the frameworks that it imports are not installed. Where they are:
`python -m pytest tests/workloads/test_official_against_algoperf.py`, with the benchmark's checkout
on PYTHONPATH if it is not installed there.
"""

import importlib
import importlib.util
import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from workloads import registry
from workloads.rulesets import ruleset

benchmark = pytest.importorskip(
    "algoperf.workloads.workloads",
    reason="algoperf is not installed: the registry cannot be compared with it",
    exc_type=ImportError,
)
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("default")  # the benchmark's own warnings are not ours

# A smaller vocabulary of the benchmark's own tests.
NOT_HERE = {"criteo1tb_test"}
# The version of the checkout: the language model came with v1.0.
VERSION = "v1.0" if "finewebedu_lm" in benchmark.WORKLOADS else "v0.6"
NAMES = [name for name in registry.names("official", VERSION) if name not in NOT_HERE]
# In PyTorch only: 229.4143, which no model reaches.
WRONG_TEST_TARGET = "wmt_attention_temp"


def class_of(name, framework="pytorch"):
    row = benchmark.WORKLOADS[name]
    path = f"algoperf.workloads.{row['workload_path'].replace('/', '.')}_{framework}.workload"
    return getattr(importlib.import_module(path), row["workload_class_name"])


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return str(request.param)


@pytest.fixture(scope="module")
def workload(name):
    return class_of(name)()


def test_both_know_the_same_workloads():
    assert set(NAMES) == set(benchmark.WORKLOADS) - NOT_HERE
    assert ruleset(VERSION).base_workloads == tuple(benchmark.BASE_WORKLOADS)
    for name in NAMES:
        if name.split("_")[0] not in ("mnist", "cifar"):
            assert registry.official(name).base_name == benchmark.get_base_workload_name(name)


def test_targets(name, workload):
    row = registry.official(name, VERSION)
    assert row.metric == workload.target_metric_name
    assert row.validation_target == workload.validation_target_value
    if name == WRONG_TEST_TARGET:
        assert workload.test_target_value == 229.4143
        assert row.test_target == class_of(name, "jax")().test_target_value
    else:
        assert row.test_target == workload.test_target_value


def test_budgets_data_model_and_direction(name, workload):
    row = registry.official(name, VERSION)
    assert row.step_hint == workload.step_hint
    assert row.max_runtime_seconds == workload.max_allowed_runtime_sec
    assert row.eval_period_seconds == workload.eval_period_time_sec
    assert row.data.train_examples == workload.num_train_examples
    assert row.data.validation_examples == workload.num_validation_examples
    assert row.data.test_examples == workload.num_test_examples
    assert row.model.loss == workload.loss_type.name
    assert row.model.eval_batch_size == workload.eval_batch_size
    default = inspect.signature(workload.model_fn).parameters["dropout_rate"].default
    assert (row.model.dropout_rate or 0.0) == default
    better = 1e-3 if row.direction == "max" else -1e-3
    for value, reached in ((better, True), (-better, False)):
        metrics = {f"validation/{row.metric}": row.validation_target + value}
        assert workload.has_reached_validation_target(metrics) == reached
        assert row.meets(row.validation_target + value, row.validation_target) == reached


def test_parameters(name):
    """Criteo's tables are built with 2 MB of 2 GB, and the rest is added to the count."""
    expected, workload = registry.official(name, VERSION).model, class_of(name)()
    added = 0
    if name.startswith("criteo1tb"):
        small = 4096
        added = (workload.vocab_size - small) * workload.embed_dim
        workload.vocab_size = small
    model, _ = workload.init_model_fn(np.array([0, 1], dtype=np.int32))
    sizes = [parameter.numel() for parameter in model.parameters()]
    assert sum(sizes) + added == expected.parameters
    assert len(sizes) == expected.tensors


def labels_and_logits(name):
    torch.manual_seed(0)
    if name == "criteo1tb":
        return torch.tensor([0.0, 1.0]), torch.randn(2, 1)
    if name == "fastmri":
        return torch.randn(2, 4, 4), torch.randn(2, 4, 4)
    if name.startswith("librispeech"):
        labels = (torch.tensor([[1, 2]]), torch.zeros(1, 2))
        return labels, (torch.randn(1, 6, 1024), torch.zeros(1, 6))
    if name == "ogbg":
        return torch.tensor([[0.0, 1.0]]), torch.randn(1, 2)
    if name == "wmt":
        return torch.tensor([[1, 2]]), torch.randn(1, 2, 8)
    return torch.tensor([1, 2]), torch.randn(2, 8)


@pytest.mark.parametrize("base", [n for n in NAMES if not registry.facts(n).base])
def test_label_smoothing(base):
    workload = class_of(base)()
    if base.startswith("librispeech"):
        workload.ctc_loss = torch.nn.CTCLoss(blank=0, reduction="none")
    labels, logits = labels_and_logits(base)
    mask = torch.ones_like(labels) if base == "ogbg" else None
    plain, smoothed = (
        float(workload.loss_fn(labels, logits, mask, label_smoothing=amount)["summed"])
        for amount in (0.0, 0.3)
    )
    assert (plain != smoothed) == registry.official(base).model.smooths_labels


def checkout(*parts):
    """A file of the benchmark's checkout that its package leaves out; skips where it is absent."""
    path = Path(benchmark.__file__).parents[2].joinpath(*parts)
    if not path.exists():
        pytest.skip(f"algoperf was installed without its checkout: no {path}")
    return path


def module_at(*parts):
    spec = importlib.util.spec_from_file_location(parts[-1].removesuffix(".py"), checkout(*parts))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_batch_sizes():
    module = module_at("algorithms", "target_setting_algorithms", "get_batch_size.py")
    baseline = ("algorithms", "baselines", "external_tuning", "pytorch_nadamw_full_budget.py")
    for name in NAMES:
        row = registry.official(name)
        if row.base_name in ("mnist", "cifar"):  # not among the target-setting workloads
            continue
        if name == "finewebedu_lm":  # nor this one, whose target was set by another file
            assert row.model.batch_size == module_at(*baseline).get_batch_size(name)
            continue
        try:
            expected = module.get_batch_size(name)
        except ValueError:
            expected = module.get_batch_size(row.base)
        assert row.model.batch_size == expected


def test_held_out_workloads_of_v05():
    path = checkout("scoring", "algoperf_v05", "held_out_workloads_algoperf_v05.json")
    rules = ruleset("v0.5")
    held_out = rules.workloads[len(rules.base_workloads) :]
    assert sorted(held_out) == sorted(json.loads(path.read_text()))
