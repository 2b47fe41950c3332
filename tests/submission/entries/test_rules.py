"""What the benchmark's rules and its runner ask of an entry, whatever it is trained on."""

import importlib
import inspect
import json
import re
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import submission
from submission.algoperf_api import pytorch as api
from submission.entries.shampoo.submission import MAX_DIM
from tests import training_ranks
from workloads import registry

ENTRIES = ("shampoo", "shampoo_self_tuning", "adamw", "nadamw")
# What the rules let a submission call or read: the model, its loss, the two budgets, the log.
ALLOWED = {"model_fn", "loss_fn", "step_hint", "max_allowed_runtime_sec", "metrics_logger"}


def module_of(entry):
    return importlib.import_module(f"submission.entries.{entry}.submission")


def point_of(entry, number=1):
    path = Path(module_of(entry).__file__).with_name("tuning_search_space.json")
    if not path.exists():
        return None
    return types.SimpleNamespace(**json.loads(path.read_text())[number - 1])


class Watched:
    """A workload that remembers what was asked of it."""

    def __init__(self):
        self._values = {
            "step_hint": 40,
            "max_allowed_runtime_sec": 100,
            "metrics_logger": None,
            "model_fn": self._model_fn,
            "loss_fn": self._loss_fn,
        }
        self._asked = set()

    def __getattr__(self, name):
        self._asked.add(name)
        if name not in self._values:
            raise AttributeError(name)
        return self._values[name]

    @staticmethod
    def _model_fn(params, augmented_and_preprocessed_input_batch, model_state, **given):
        del given
        return params(augmented_and_preprocessed_input_batch["inputs"]), model_state

    @staticmethod
    def _loss_fn(label_batch, logits_batch, mask_batch=None, label_smoothing=0.0):
        del mask_batch
        losses = F.cross_entropy(
            logits_batch, label_batch, reduction="none", label_smoothing=label_smoothing
        )
        return {"summed": losses.sum(), "n_valid_examples": torch.tensor(float(len(losses)))}


class Librispeech(Watched):
    """Another class, of another name."""


def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))


def train(entry, workload, model, steps=4, seconds_per_step=0.0, kinds=None, rows=slice(None)):
    """Weights after some steps on these rows of each batch, and the optimizer's state."""
    module, point = module_of(entry), point_of(entry)
    state = module.init_optimizer_state(workload, model, None, point, None)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(8, 6, generator=generator)[rows].to(next(model.parameters()).dtype)
        targets = torch.randint(0, 3, (8,), generator=generator)[rows]
        seconds = {"accumulated_submission_time": (step + 1) * seconds_per_step}
        state, model, _ = module.update_params(
            workload=workload,
            current_param_container=model,
            current_params_types=kinds,
            model_state=None,
            hyperparameters=point,
            batch={"inputs": inputs, "targets": targets},
            loss_type=None,
            optimizer_state=state,
            eval_results=[],
            global_step=step,
            rng=None,
            train_state=types.MappingProxyType(seconds),
        )
    return [parameter.detach().clone() for parameter in model.parameters()], state


def assert_same(one, other):
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_looks_at_nothing_of_the_workload_but_its_budgets(entry):
    workload = Watched()
    weights, _ = train(entry, workload, make_model())
    assert {"model_fn", "loss_fn", "step_hint"} <= workload._asked <= ALLOWED
    other, _ = train(entry, Librispeech(), make_model(), kinds={"weight": "EMBEDDING"})
    assert_same(weights, other)


def test_no_workload_is_named_but_in_the_table_of_batch_sizes():
    names = re.compile("|".join({row.base or name for name, row in official().items()}))
    for path in Path(submission.__path__[0]).rglob("*.py"):
        if path.name != "batch_sizes.py":
            code = re.sub(r'"""(?s:.*?)"""', "", path.read_text())
            assert not names.findall(code), path


def official():
    return {name: registry.official(name) for name in registry.names("official")}


def batch_size(function, name, row):
    """As the runner asks for it."""
    try:
        return function(name)
    except ValueError as error:
        assert f"no batch size for workload '{name}'" in str(error)
        return function(row.base)


def test_the_baselines_batches_are_the_benchmarks_and_shampoos_the_winners():
    speech = {"librispeech_conformer": 200, "librispeech_deepspeech": 224}
    for name, row in official().items():
        assert batch_size(api.get_batch_size, name, row) == row.model.batch_size, name
        expected = speech.get(row.base or name, row.model.batch_size)
        assert batch_size(api.get_shampoo_batch_size, name, row) == expected, name
        assert expected % 8 == row.model.batch_size % 8 == 0, "8 GPUs share it"


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_runner_sees_that_train_state_is_wanted(entry):
    module = module_of(entry)
    assert "train_state" in inspect.signature(module.update_params).parameters
    assert list(inspect.signature(module.init_optimizer_state).parameters) == [
        *("workload", "model_params", "model_state", "hyperparameters", "rng")
    ]


@pytest.mark.parametrize("entry", ENTRIES)
def test_prefixes_of_parameters_names_change_nothing(entry):
    plain, _ = train(entry, Watched(), make_model())
    wrapped = torch.nn.ModuleDict({"module": make_model()})
    wrapped = torch.nn.ModuleDict({"_orig_mod": wrapped})
    wrapped.forward = lambda inputs: wrapped["_orig_mod"]["module"](inputs)
    assert all(name.startswith("_orig_mod.module.") for name, _ in wrapped.named_parameters())
    prefixed, state = train(entry, Watched(), wrapped)
    assert_same(plain, prefixed)
    json.dumps(list(state["optimizer"].state_dict()["param_groups"][0]["params"]))


@pytest.mark.parametrize("entry", ["shampoo", "shampoo_self_tuning"])
def test_a_table_takes_adamw_s_step_and_a_vocabulary_is_preconditioned(entry):
    model = torch.nn.ModuleDict(
        {
            "table": torch.nn.Embedding(MAX_DIM + 1, 1),
            "vocabulary": torch.nn.Embedding(32_000, 4),
            "hidden": torch.nn.Linear(8, 8),
        }
    )
    state = module_of(entry).init_optimizer_state(Watched(), model, None, point_of(entry), None)
    table, vocabulary, hidden, bias = (
        line for line in repr(state["optimizer"]).splitlines() if "param " in line
    )
    assert "AdamW" in table and "AdamW" in bias
    assert "Shampoo" in vocabulary and "Shampoo" in hidden


@pytest.mark.parametrize("entry", ["shampoo", "shampoo_self_tuning"])
def test_on_a_slow_machine_the_schedule_ends_with_the_time(entry):
    factor = (point_of(entry) or module_of(entry).POINT).budget_factor
    steps = 25
    _, slow = train(entry, Watched(), make_model(), steps, seconds_per_step=100 * factor / steps)
    assert slow["optimizer"].param_groups[0]["lr"] == 0
    _, fast = train(entry, Watched(), make_model(), steps, seconds_per_step=0.1)
    assert fast["optimizer"].param_groups[0]["lr"] > 0


@pytest.mark.parametrize("entry", ["adamw", "nadamw"])
def test_the_baselines_take_no_notice_of_the_clock(entry):
    slow, _ = train(entry, Watched(), make_model(), seconds_per_step=50)
    fast, _ = train(entry, Watched(), make_model())
    assert_same(slow, fast)


def trained_by_ranks(rank, entry, world):
    """Weights after training on this rank's rows, the model wrapped as the benchmark wraps it."""
    model = torch.nn.parallel.DistributedDataParallel(make_model().double())
    return train(entry, Watched(), model, rows=slice(rank, None, world))[0]


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["shampoo", "shampoo_self_tuning"])
def test_eight_ranks_take_the_steps_of_one(entry):
    alone, _ = train(entry, Watched(), make_model().double())
    for weights in (found := training_ranks.run(8, trained_by_ranks, entry, 8)):
        assert_same(weights, found[0])
    for weight, expected in zip(found[0], alone, strict=True):
        assert torch.allclose(weight, expected, rtol=1e-8, atol=1e-10)


def test_self_tuning_ignores_whatever_hyperparameters_it_is_given():
    module = module_of("shampoo_self_tuning")
    rates = []
    for given in (None, types.SimpleNamespace(learning_rate=7.0)):
        state = module.init_optimizer_state(Watched(), make_model(), None, given, None)
        rates.append(state["optimizer"].param_groups[0]["initial_lr"])
    assert rates == [module.POINT.learning_rate] * 2


def test_self_tuning_is_the_external_entry_s_fifth_point_but_for_its_own_time_and_dropout():
    own, fifth = vars(module_of("shampoo_self_tuning").POINT), vars(point_of("shampoo", 5))
    different = {name for name in own.keys() | fifth if own.get(name) != fifth.get(name)}
    assert different == {"budget_factor", "dropout_rate", "momentum"}
    assert fifth["momentum"] == 0.0, "which is what the optimizer does without"
