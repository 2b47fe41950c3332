"""The league's entries: what makes them what they are, equal ranges, and resuming."""

import copy
import json
import types

import pandas as pd
import pytest
import torch

from common import documents
from common.cli import UserError
from scripts.league import cost, held_out, standins, vary
from scripts.local import entries, rivals, search_table
from scripts.local.environment import ROOT
from scripts.local.trial import Trial
from tests.scripts.test_real_resume import metrics_of_whole_and_resumed
from workloads import registry, search_space

LEAGUE = ROOT / "scripts" / "league" / "entries"
RIVALS = sorted(path.parent.name for path in LEAGUE.glob("*/submission.py"))
PACKAGED = {"meta_shampoo", "meta_soap", "meta_kl_shampoo", "po_soap", "hb_soap"}
OWN = ("shampoo", "adamw", "nadamw", "nesterov")
SPACES = entries.STANDIN_POINTS.with_name("entry_search_spaces.json")


def entry(name):
    return entries.load(entries.named(str(LEAGUE / name)))


def point(name, **changes):
    (drawn,) = search_space.draw(entries.ranges(SPACES, [name])[name], 1)
    return drawn | changes


def start(name, **changes):
    """A small model in which a layer is the workload's output, and the entry's optimizer of it."""
    workload = registry.load("mnist_vit")
    model, _ = workload.init_model_fn([0, 1])
    values = types.SimpleNamespace(**point(name, **changes))
    state = entry(name).init_optimizer_state(workload, model, None, values, None)
    return model, state["optimizer"]


def move(model, optimizer, steps=3):
    """Steps along gradients that depend on the step's number alone."""
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def assert_eval_moves(model, optimizer):
    trained = [p.detach().clone() for p in model.parameters()]
    optimizer.eval()
    assert any(not torch.equal(a, b) for a, b in zip(trained, model.parameters(), strict=True))


def test_all_entries_have_ranges_of_the_same_widths():
    spaces = json.loads(SPACES.read_text())
    assert spaces.keys() == {*OWN, *RIVALS}

    def widths(name):
        """Of what all entries have: an average's share is beside it."""
        ranges = spaces[name].items()
        found = {key: round(r["max"] / r["min"], 6) for key, r in ranges if "min" in r}
        return {key: width for key, width in found.items() if key != "averaging_share"}

    expected = widths("adamw")
    assert expected["learning_rate"] == 400
    for name in spaces:
        assert all(expected[key] == width for key, width in widths(name).items()), name
        assert expected.keys() - widths(name).keys() <= {"one_minus_beta2", "step_hint_factor"}
        for key in ("warmup_factor", "dropout_rate", "label_smoothing"):
            assert spaces[name][key] == spaces["adamw"][key]


@pytest.mark.parametrize("name", sorted(PACKAGED - rivals.absent().keys()))
def test_an_entry_of_another_package_is_that_packages_optimizer(name):
    model, optimizer = start(name)
    before = [p.detach().clone() for p in model.parameters()]
    move(model, optimizer)
    assert type(optimizer).__module__.split(".")[0] not in ("submission", "scripts")
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_an_entry_whose_package_is_missing_says_so(name, monkeypatch):
    monkeypatch.setattr(rivals, "available", dict)
    monkeypatch.setattr(rivals, "absent", lambda: {name: "no module"})
    with pytest.raises(UserError, match=f"'{name}' needs its package; no module"):
        start(name)


@pytest.mark.parametrize("name", sorted(set(RIVALS) - PACKAGED))
def test_resumes_bitwise(name, tmp_path):
    entries.named(str(LEAGUE / name))
    values = point(name, dropout_rate=0.1)
    trial = Trial("mnist_vit", name, 0, 1, values, max_steps=12, ignore_targets=True)
    whole, resumed = metrics_of_whole_and_resumed(trial, tmp_path, stopped_at=7)
    assert whole == resumed


def test_muon_moves_hidden_matrices_as_torchs_and_adamw_the_rest():
    model, optimizer = start("muon_adamw")
    by_muon = {n for n, p in model.named_parameters() if p.ndim == 2 and "embedding" not in n}
    by_muon.remove("head.weight")
    twin = copy.deepcopy(model)
    rate = optimizer.param_groups[0]["lr"]
    decay = optimizer.param_groups[0]["weight_decay"]
    named = dict(twin.named_parameters())
    muon = torch.optim.Muon(
        [named[n] for n in sorted(by_muon)],
        lr=rate,
        weight_decay=decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [p for n, p in named.items() if n not in by_muon],
        lr=rate,
        weight_decay=decay,
        betas=optimizer.param_groups[1]["betas"],
        fused=True,
    )
    twins = types.SimpleNamespace(step=lambda: (muon.step(), adamw.step()))
    move(model, optimizer)
    move(twin, twins)
    for (name, moved), expected in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(moved, expected, rtol=0, atol=0, msg=name)
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_muon_takes_convolutions_as_matrices():
    module = entry("muon_adamw")
    weights = [torch.nn.Parameter(torch.randn(4, 3, 3, 3)), torch.nn.Parameter(torch.randn(4, 27))]
    with torch.no_grad():
        weights[1].copy_(weights[0].view(4, 27))
    gradient = torch.randn(4, 27)
    for weight in weights:
        other = torch.nn.Parameter(torch.zeros(2))
        optimizer = module.MuonWithAdamW([weight], [other], 0.1, (0.9, 0.99), 0.1)
        weight.grad, other.grad = gradient.view(weight.shape).clone(), torch.ones(2)
        optimizer.step()
    torch.testing.assert_close(weights[0].view(4, 27), weights[1], rtol=0, atol=0)


def test_adamw_ema_trains_as_adamw_and_is_evaluated_at_the_average():
    model, optimizer = start("adamw_ema", averaging_share=0.5, warmup_factor=0.0)
    twin = copy.deepcopy(model)
    group = optimizer.param_groups[0]
    names = ("lr", "betas", "weight_decay")
    adamw = torch.optim.AdamW(twin.parameters(), **{name: group[name] for name in names})
    for _ in range(3):
        move(model, optimizer, 1)
        move(twin, adamw, 1)
    torch.testing.assert_close([*model.parameters()], [*twin.parameters()], rtol=1e-5, atol=1e-6)
    assert_eval_moves(model, optimizer)


def test_shampoo_ema_trains_as_the_entry_and_is_evaluated_at_the_average():
    model, optimizer = start("shampoo_ema", averaging_share=0.5, warmup_factor=0.0)
    workload = registry.load("mnist_vit")
    twin = copy.deepcopy(model)
    values = types.SimpleNamespace(**point("shampoo_ema", warmup_factor=0.0))
    own = entries.load(entries.named("shampoo"))
    base = own.init_optimizer_state(workload, twin, None, values, None)["optimizer"]
    move(model, optimizer, 25)
    move(twin, base, 25)
    torch.testing.assert_close([*model.parameters()], [*twin.parameters()])
    assert_eval_moves(model, optimizer)


def test_schedule_free_keeps_its_rate_and_is_evaluated_at_its_average():
    workload = registry.load("mnist_vit")
    model, _ = workload.init_model_fn([0, 1])
    values = types.SimpleNamespace(**point("schedule_free_adamw", warmup_factor=0.0))
    state = entry("schedule_free_adamw").init_optimizer_state(workload, model, None, values, None)
    optimizer, scheduler = state["optimizer"], state["scheduler"]
    optimizer.train()
    for _ in range(5):
        move(model, optimizer, 1)
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == values.learning_rate
    assert_eval_moves(model, optimizer)


@pytest.mark.parametrize(
    ("name", "method", "interval"),
    [("soap", "soap", 10), ("kl_shampoo", "kl_shampoo", 10), ("published_winner", "shampoo", 100)],
)
def test_own_methods_are_what_they_are_called(name, method, interval):
    _, optimizer = start(name)
    group = optimizer.param_groups[0]
    assert (group["method"], group["refresh_interval"]) == (method, interval)
    assert group["lr"] > 0 and group["weight_decay"] == point(name)["weight_decay"]


def test_costs_are_measured_without_dropout_on_the_same_batches(monkeypatch):
    listed = entries.points("adamw")[0] | {"dropout_rate": 0.1}
    monkeypatch.setattr(entries, "points", lambda name: [listed])
    rows = cost.measure("mnist_vit", ["adamw", "nadamw"], warmup=1, steps=2)
    assert [(row["workload"], row["entry"]) for row in rows] == [
        ("mnist_vit", "adamw"),
        ("mnist_vit", "nadamw"),
    ]
    assert rows[0]["ratio"] == 1
    assert all(row["milliseconds"] > 0 for row in rows)
    first, second = (cost._started("mnist_vit", name, listed) for name in ("adamw", "nadamw"))
    assert first.hyperparameters.dropout_rate == second.hyperparameters.dropout_rate == 0
    batches = [next(state.input_queue)["inputs"] for state in (first, second)]
    assert torch.equal(*batches)
    assert "| nadamw" in cost.page(rows) and "adamw, ms" in cost.page(rows)


def test_costs_of_variants_are_measured_beside_those_of_entries(monkeypatch):
    started = cost._started
    states = []

    def recorded(*arguments):
        states.append(started(*arguments))
        return states[-1]

    monkeypatch.setattr(cost, "_started", recorded)
    variants = vary.variants(["interval1", "interval50"])
    rows = cost.measure("molecules_gnn", ["adamw"], warmup=0, steps=2, variants=variants)
    assert [row["entry"] for row in rows] == ["adamw", "interval1", "interval50"]
    groups = [state.optimizer_state["optimizer"].param_groups[0] for state in states[1:]]
    assert [group["refresh_interval"] for group in groups] == [1, 50]


def test_a_pause_of_the_machine_spoils_no_cost():
    times = [1.0] * 19 + [11.0]  # a refresh in every run
    assert cost._mean(times * 5) == 1.5 == cost._mean([*times * 4, *[50.0] * 20])


def test_a_schedule_that_is_shorter_than_the_measurement_is_named(monkeypatch):
    listed = entries.points("adamw")[0] | {"step_hint_factor": 0.004, "warmup_factor": 0.0}
    monkeypatch.setattr(entries, "points", lambda name: [listed])
    with pytest.raises(UserError, match="schedule of adamw on mnist_vit has 3 steps, --warmup and"):
        cost.measure("mnist_vit", ["adamw"], warmup=5, steps=5)


def test_points_are_chosen_anew_without_the_workload_that_is_held_out(tmp_path):
    # Point 1 is best on the first two workloads, point 2 on the third.
    steps = {"mnist_vit": (80, 160), "flights_dlrm": (96, 192), "stdlib_lm": ("", 68)}
    rows = [
        {"workload": w, "entry": "adamw", "trial": trial, "best_validation": 0.5}
        | {"best_step": 1, "steps_to_target": value, "steps": 1, "seconds": 1}
        | {"learning_rate": trial / 10}
        for w, values in steps.items()
        for trial, value in enumerate(values, start=1)
    ]
    search_table.write_table(tmp_path / "search.csv", rows)
    judged = {row["workload"]: row for row in held_out.rows_of(tmp_path / "search.csv", 1)}
    assert [row["cost"] for row in judged.values()] == [0.2, 0.2, 0.1], "point 2 is best in all"
    assert judged["stdlib_lm"]["points_held_out"] == "1"
    assert judged["stdlib_lm"]["cost_held_out"] == search_table.MISS
    assert judged["mnist_vit"]["points_held_out"] == "2"
    (line,) = (
        row for row in held_out.page(list(judged.values()), 1).splitlines() if "adamw" in row
    )
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        *("adamw", "0.167", "0", "0.800", "1", "3"),
    ]


def test_a_best_rate_at_an_edge_is_told():
    costs = pd.Series({1: 0.5, 2: 0.4, 3: 0.4})
    ranks = pd.Series({1: 0.0, 2: 0.2, 3: 0.1})
    for rates, expected in (
        ({1: 0.1, 2: 0.3, 3: 0.2}, held_out.INNER),
        ({1: 0.1, 2: 0.2, 3: 0.3}, "highest"),
        ({1: 0.3, 2: 0.2, 3: 0.1}, "lowest"),
    ):
        assert held_out.best_rate(costs, ranks, rates) == expected


def test_one_workload_cannot_be_held_out(tmp_path):
    row = {"workload": "mnist_vit", "entry": "adamw", "trial": 1, "best_validation": 0.5}
    row |= {"best_step": 1, "steps_to_target": 20, "steps": 20, "seconds": 1, "learning_rate": 1}
    search_table.write_table(tmp_path / "search.csv", [row])
    with pytest.raises(UserError, match="two are needed"):
        held_out.rows_of(tmp_path / "search.csv", 1)


def test_the_document_says_what_the_stand_ins_are():
    text = standins.DOCUMENT.read_text("utf-8")
    if registry.caveat("stdlib_lm"):
        pytest.skip("another Python has another library, with other rows")
    assert documents.filled(text, standins.TABLES) == text, (
        "run `python -m scripts.league.standins`"
    )
