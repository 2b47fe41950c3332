"""Every entry: the API, the benchmark's rules, its points, and steps that learn."""

import importlib
import inspect
import json
import re
import types
from pathlib import Path

import pytest
import torch

import submission
from scripts.local import entries, entry_info
from submission.algoperf_api import pytorch as api
from submission.algoperf_api import spec
from submission.entries.nadamw.nadamw import NAdamW
from submission.entries.shampoo.options import MAX_DIM
from submission.shampoo import parameter_groups
from tests import training_ranks
from tests.submission.tiny_training import Run, TinyWorkload, make_batch, same
from workloads import prng, registry

ENTRIES = Path(submission.__path__[0]) / "entries"
BASELINES = ("adamw", "nadamw")
SHAMPOO = ("shampoo", "shampoo_self_tuning")
STANDIN_POINTS = Path(__file__).parents[3] / "workloads" / "standin" / "points"
# What the rules let a submission call or read: the model, its loss, the two budgets, the log.
ALLOWED = {"model_fn", "loss_fn", "step_hint", "max_allowed_runtime_sec", "metrics_logger"}


def handed_in(framework):
    """Names of the entries in a framework that say how they are handed in."""
    folders = [path.parent for path in sorted(ENTRIES.glob("*/submission_info.yml"))]
    return [folder.name for folder in folders if entry_info.framework(folder) == framework]


SUBMITTED = handed_in("pytorch")


def test_the_baselines_and_shampoo_are_handed_in_in_both_frameworks():
    in_jax = {entries.twin(entry) for entry in handed_in("jax")}
    assert {*SHAMPOO, *BASELINES} <= in_jax.intersection(SUBMITTED)


def module_of(entry):
    return importlib.import_module(f"submission.entries.{entry}.submission")


def points_of(entry, suite="official"):
    """The tuning points of an entry, None alone for one that tunes itself."""
    path = Path(module_of(entry).__file__).with_name("tuning_search_space.json")
    if suite == "standin":
        path = STANDIN_POINTS / f"{entry}.json"
    return json.loads(path.read_text()) if path.exists() else [None]


def point_of(entry, number=1):
    point = points_of(entry)[number - 1]
    return point and types.SimpleNamespace(**point)


def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))


def train(entry, model, workload=None, steps=4, seconds_per_step=0.0, kinds=None, rows=slice(None)):
    """The run of an entry with its first point after some steps on these rows of each batch."""
    run = Run(module_of(entry), model, point_of(entry), workload)
    dtype = next(model.parameters()).dtype
    for step in range(steps):
        run.step(make_batch(step, rows, dtype), step, (step + 1) * seconds_per_step, kinds)
    return run


@pytest.mark.parametrize("entry", [*SUBMITTED, "nesterov"])
def test_has_the_functions_of_the_api_with_the_benchmarks_parameters(entry):
    module = module_of(entry)
    names = {
        name: list(inspect.signature(getattr(module, name)).parameters)
        for name in ("init_optimizer_state", "update_params", "data_selection", "prepare_for_eval")
    }
    for name in ("update_params", "data_selection", "prepare_for_eval"):
        assert names[name][0] == "workload"
    assert names["init_optimizer_state"] == [
        *("workload", "model_params", "model_state", "hyperparameters", "rng")
    ]
    assert "train_state" in names["update_params"], "or the runner passes none"
    assert module.get_batch_size("wmt") == 128


@pytest.mark.parametrize("suite", ["official", "standin"])
def test_points_are_five_and_differ_and_tune_the_same_hyperparameters(suite):
    points = {entry: points_of(entry, suite) for entry in ("shampoo", *BASELINES)}
    for of_entry in points.values():
        assert len({json.dumps(point, sort_keys=True) for point in of_entry}) == len(of_entry) == 5
        assert len({tuple(point) for point in of_entry}) == 1
    shampoo, adamw, nadamw = (set(of_entry[0]) for of_entry in points.values())
    assert adamw == nadamw <= shampoo


@pytest.mark.parametrize("entry", SUBMITTED)
def test_an_entry_looks_at_nothing_of_the_workload_but_its_budgets(entry):
    class Librispeech(TinyWorkload):
        """Another class, of another name."""

    run = train(entry, make_model())
    assert {"model_fn", "loss_fn", "step_hint"} <= run.workload.read <= ALLOWED
    other = train(entry, make_model(), Librispeech(), kinds={"weight": "EMBEDDING"})
    assert same(run.weights, other.weights)


def official():
    return {name: registry.official(name) for name in registry.names("official")}


def test_no_workload_is_named_but_in_the_table_of_batch_sizes():
    names = re.compile("|".join({row.base or name for name, row in official().items()}))
    for path in Path(submission.__path__[0]).rglob("*.py"):
        if path.name != "batch_sizes.py":
            code = re.sub(r'"""(?s:.*?)"""', "", path.read_text())
            assert not names.findall(code), path


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
        assert expected % 8 == row.model.batch_size % 8 == 0, "8 GPUs share it, or 4"


@pytest.mark.parametrize("entry", SUBMITTED)
def test_prefixes_of_parameters_names_change_nothing(entry):
    wrapped = torch.nn.ModuleDict({"_orig_mod": torch.nn.ModuleDict({"module": make_model()})})
    wrapped.forward = lambda inputs: wrapped["_orig_mod"]["module"](inputs)
    run = train(entry, wrapped)
    assert same(run.weights, train(entry, make_model()).weights)
    json.dumps(list(run.optimizer.state_dict()["param_groups"][0]["params"]))


@pytest.mark.parametrize("entry", SHAMPOO)
def test_a_table_takes_adamw_s_step_and_a_vocabulary_is_preconditioned(entry):
    layers = {
        "table": torch.nn.Embedding(MAX_DIM + 1, 1),
        "vocabulary": torch.nn.Embedding(32_000, 4),
        "hidden": torch.nn.Linear(8, 8),
    }
    text = repr(Run(module_of(entry), torch.nn.ModuleDict(layers), point_of(entry)).optimizer)
    table, vocabulary, hidden, bias = (line for line in text.splitlines() if "param " in line)
    assert "AdamW" in table and "AdamW" in bias
    assert "Shampoo" in vocabulary and "Shampoo" in hidden


class Tied(torch.nn.Module):
    """A vocabulary whose output layer has the embedding's weights, as v1.0's language model."""

    def __init__(self, words, width):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(words, width, device="meta")
        self.hidden = torch.nn.Linear(width, width, bias=False, device="meta")
        self.lm_head = torch.nn.Linear(width, words, bias=False, device="meta")
        self.lm_head.weight = self.embed_tokens.weight


@pytest.mark.parametrize("entry", SHAMPOO)
@pytest.mark.parametrize(
    ("words", "blocks"),
    [
        (50_257, "Shampoo, 7 x [1006, 1024] + 43 x [1005, 1024]"),
        (32_000, "Shampoo, 32 x [1000, 1024]"),
        (2**20, "AdamW (table: over max_dim=131072 and 8 times its other side)"),
    ],
)
def test_a_tied_table_is_one_parameter_and_preconditioned_up_to_max_dim(entry, words, blocks):
    model = Tied(words, 1024)
    make_optimizer = module_of("shampoo").make_optimizer
    point = point_of(entry) or module_of(entry).POINT
    text = " ".join(repr(make_optimizer(model.named_parameters(), point)).split())
    assert f"embed_tokens.weight [{words}, 1024]: {blocks} hidden.weight" in text
    assert "lm_head" not in text
    # As the examples group parameters, every embedding would be AdamW's.
    by_module = " ".join(repr(make_optimizer(parameter_groups(model), point)).split())
    assert f"embed_tokens.weight [{words}, 1024]: AdamW (table)" in by_module


@pytest.mark.parametrize("entry", SHAMPOO)
def test_on_a_slow_machine_the_schedule_ends_with_the_time(entry):
    factor = (point_of(entry) or module_of(entry).POINT).budget_factor
    assert train(entry, make_model(), steps=25, seconds_per_step=100 * factor / 25).rate == 0
    assert train(entry, make_model(), steps=25, seconds_per_step=0.1).rate > 0


@pytest.mark.parametrize("entry", BASELINES)
def test_the_baselines_take_no_notice_of_the_clock(entry):
    slow = train(entry, make_model(), seconds_per_step=50)
    assert same(slow.weights, train(entry, make_model()).weights)


def trained_by_ranks(rank, entry, world):
    """Weights after training on this rank's rows, the model wrapped as the benchmark wraps it."""
    model = torch.nn.parallel.DistributedDataParallel(make_model().double())
    return train(entry, model, rows=slice(rank, None, world)).weights


@pytest.mark.slow
@pytest.mark.parametrize("entry", SHAMPOO)
def test_eight_ranks_take_the_steps_of_one(entry):
    alone = train(entry, make_model().double()).weights
    by_rank = training_ranks.run(8, trained_by_ranks, entry, 8)
    for weights in by_rank:
        assert same(weights, by_rank[0])
    for weight, expected in zip(by_rank[0], alone, strict=True):
        assert torch.allclose(weight, expected, rtol=1e-8, atol=1e-10)


def test_self_tuning_ignores_whatever_hyperparameters_it_is_given():
    module = module_of("shampoo_self_tuning")
    for given in (None, types.SimpleNamespace(learning_rate=7.0)):
        run = Run(module, make_model(), given)
        assert run.optimizer.param_groups[0]["initial_lr"] == module.POINT.learning_rate


def test_self_tuning_is_the_external_entry_s_first_point_but_for_its_own_time_and_dropout():
    point, first = vars(module_of("shampoo_self_tuning").POINT), vars(point_of("shampoo", 1))
    different = {name for name in point.keys() | first if point.get(name) != first.get(name)}
    assert different == {"budget_factor", "dropout_rate", "momentum"}
    assert first["momentum"] == 0.0, "which is what the optimizer does without"


def test_damping_is_for_products_in_tf32_and_the_league_s_where_a_point_has_none():
    point = vars(point_of("shampoo"))
    for given, expected in ((point, 1e-5), ({**point, "damping": 1e-4}, 1e-4)):
        run = Run(module_of("shampoo"), make_model(), types.SimpleNamespace(**given))
        assert run.optimizer.param_groups[0]["damping"] == expected
    del point["damping"]
    run = Run(module_of("shampoo"), make_model(), types.SimpleNamespace(**point))
    assert run.optimizer.param_groups[0]["damping"] == 1e-6


@pytest.mark.parametrize("entry", [*SUBMITTED, "nesterov"])
def test_twenty_steps_on_one_batch_lower_its_loss(entry, monkeypatch):
    module, workload = module_of(entry), registry.load("mnist_vit")
    data_rng, model_rng, rng = prng.split(prng.key(0), 3)
    model, model_state = workload.init_model_fn(model_rng)
    point = {**points_of("shampoo")[0], "weight_decay": 0.01, "warmup_factor": 0.0}
    point |= {"learning_rate": 0.1 if entry == "nesterov" else 3e-3, "one_minus_beta1": 0.1}
    point |= {"one_minus_beta2": 0.01, "label_smoothing": 0.0, "dropout_rate": 0.0}
    if entry == "shampoo_self_tuning":  # warms up for a tenth of the hint
        monkeypatch.setattr(type(workload), "step_hint", 30)
    run = Run(module, model, types.SimpleNamespace(**point), workload)
    queue = workload._build_input_queue(
        data_rng, "train", "", global_batch_size=module.get_batch_size("mnist_vit")
    )
    batch = module.data_selection(workload, queue, run.state, model, model_state, point, 0, rng)

    def loss():
        with torch.no_grad():
            logits, _ = workload.model_fn(
                model, batch, model_state, spec.ForwardPassMode.EVAL, rng, False
            )
            return float(workload.loss_fn(batch["targets"], logits)["summed"])

    before = loss()
    for step in range(20):
        run.step(batch, step, rng=rng)
    assert loss() < 0.9 * before
    assert all(hasattr(value, "state_dict") for value in run.state.values())


def test_nadamw_is_adamw_with_the_look_ahead_average():
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    optimizer = NAdamW([weight], lr=0.1, betas=(0.8, 0.9), eps=1e-8, weight_decay=0.2)
    expected = weight.detach().clone()
    m = v = torch.zeros_like(expected)
    for step in range(1, 6):
        grad = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        weight.grad = grad.clone()
        optimizer.step()
        m, v = 0.8 * m + 0.2 * grad, 0.9 * v + 0.1 * grad**2
        ahead = (0.8 * m + 0.2 * grad) / (1 - 0.8**step)
        expected = expected * (1 - 0.1 * 0.2) - 0.1 * ahead / ((v / (1 - 0.9**step)).sqrt() + 1e-8)
    assert torch.allclose(weight, expected, rtol=1e-12)


def test_nadamw_counts_steps_on_the_host_wherever_they_were_loaded_from():
    class OnAGpu(torch.Tensor):
        """A tensor that only `cpu` makes an ordinary one."""

        def cpu(self):
            return self.as_subclass(torch.Tensor)

    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = NAdamW([weight])
    weight.grad = torch.ones(2)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = saved["state"][0]["step"].as_subclass(OnAGpu)
    optimizer.load_state_dict(saved)
    assert type(optimizer.state[weight]["step"]) is torch.Tensor
    assert optimizer.state[weight]["step"] == 1


@pytest.mark.parametrize(
    ("options", "name"), [({"betas": (0.9, 1.0)}, "betas"), ({"lr": -1.0}, "lr")]
)
def test_nadamw_names_bad_options(options, name):
    with pytest.raises(ValueError, match=name):
        NAdamW([torch.nn.Parameter(torch.ones(1))], **options)
