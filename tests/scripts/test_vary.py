"""Variants of the league's best entry: what their points change, and which can be trained."""

import json

import pytest
import torch

from common import files
from common.cli import UserError
from scripts.league import vary
from scripts.league.averaged import WeightAverage
from scripts.local import entries
from submission.shampoo import Shampoo
from tests.scripts.commands import finish, must_succeed
from workloads import registry, search_space

POINTS = entries.points(entries.named(vary.argument(vary.BASE)))
VARIANTS = vary.variants(None)
OWN = [name for name, variant in VARIANTS.items() if variant.entry == vary.VARIED]


def settings(entry, point):
    """Options of the optimizer that an entry makes of a point."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 6))
    module = entries.load(entries.named(vary.argument(entry)))
    workload = registry.load("mnist_vit")
    values = search_space.as_namedtuple(point)
    state = module.init_optimizer_state(workload, model, None, values, None)
    (group,) = state["optimizer"].param_groups
    return {name: value for name, value in group.items() if name != "params"}


def test_without_a_change_it_is_the_base():
    assert settings("varied", POINTS[1]) == settings(vary.BASE, POINTS[1])


@pytest.mark.parametrize("name", OWN)
def test_every_variant_changes_what_its_point_says(name):
    change = VARIANTS[name].change
    point = {**POINTS[2], "averaging_share": 0.03}  # which no variant has
    base, varied = settings("varied", point), settings("varied", point | change)
    assert (base != varied) == (name != "nothing")
    for option in change.keys() & base.keys() - {"grafting"}:
        given = change[option]
        expected = getattr(torch, given) if option.endswith("_dtype") else given
        assert varied[option] == expected


def test_a_name_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match=r"^block_sise is no option .* did you mean block_size\?$"):
        settings("varied", POINTS[2] | {"block_sise": 64})


def test_what_is_no_variant_or_a_patch_is_refused():
    with pytest.raises(UserError, match="--variants: 'overlp' is unknown; did you mean overlap"):
        vary.variants(["overlp"])
    with pytest.raises(UserError, match="--variants: 'cautious' is a patch of the code"):
        vary.variants(["cautious"])


def test_the_plan_has_the_base_s_best_trials_and_writes_nothing(tmp_path):
    command = ("-m", "scripts.league.vary", f"--output={tmp_path / 'logs'}", "--dry_run")
    out = must_succeed(finish(*command, "--workloads=mnist_vit,stdlib_lm", "--variants=overlap"))
    assert "6 trials, 0 complete, 6 to run" in out
    assert not (tmp_path / "logs").exists()


def test_strings_and_null_reach_an_entry_that_is_named_by_its_path(tmp_path):
    path = tmp_path / "points.json"
    path.write_text(json.dumps([{**POINTS[0], "grafting": None, "root_dtype": "bfloat16"}]))
    entry = entries.named(vary.argument(vary.VARIED))
    assert entries.point(entry, path, 1)["root_dtype"] == "bfloat16"
    with pytest.raises(UserError, match="grafting is None, not a finite number"):
        entries.point("shampoo", path, 1)


def test_a_point_is_of_a_file_that_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "points.json"
    path.write_text(json.dumps(entries.points("adamw")[:2]))
    reads = []
    read_json = files.read_json

    def counted(path):
        reads.append(path)
        return read_json(path)

    monkeypatch.setattr(files, "read_json", counted)
    assert entries.point("adamw", path, 2) == entries.points("adamw")[1]
    assert reads.count(path) == 1


@pytest.mark.parametrize("frees_gradients", [False, True])
def test_an_average_beside_torchs_adamw_is_that_of_ours(frees_gradients):
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3)) for _ in range(2)]
    adamw = torch.optim.AdamW(weights[:1], lr=0.1)
    if frees_gradients:  # within the step, as heavyball's optimizers do
        adamw.register_step_post_hook(lambda *_: adamw.zero_grad())
    average = WeightAverage(adamw, share=0.1)
    ours = Shampoo(weights[1:], lr=0.1, weight_decay=0.01, table=True, averaging="ema")
    generator = torch.Generator().manual_seed(0)
    for step in range(12):
        gradient = torch.randn(4, 3, generator=generator)
        for weight, optimizer in zip(weights, (adamw, ours), strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
        if step == 5:  # as after a restart
            saved = average.state_dict()
            average.load_state_dict(saved)
    trained = weights[0].detach().clone()
    assert adamw.param_groups[0]["averaging"] == "ema"
    adamw.eval()
    ours.eval()
    torch.testing.assert_close(weights[0], weights[1])
    assert not torch.equal(weights[0], trained)
    adamw.train()
    assert torch.equal(weights[0], trained)
