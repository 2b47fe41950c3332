"""The benchmark of optimizer steps: clocks, memory, alternation, failures, tables, flags."""

import dataclasses
import itertools
import json
import math
import threading
import time

import pytest
import torch

from scripts.benchmark import clock, machine, measure, model_shapes, report
from scripts.benchmark.clock import StepTimeout, interleaved, summaries, summary, timed
from scripts.benchmark.counting import operators
from scripts.benchmark.measure import Plan
from scripts.benchmark.stepped import SteppedOptimizer, gradients
from scripts.local import rivals
from scripts.local.rivals import Rival, RivalOptions
from tests.scripts.commands import finish, must_refuse, must_succeed

CPU = torch.device("cpu")
TOY = {"weight": (6, 4), "bias": (6,)}


class Toy(torch.optim.SGD):
    """Gradient descent that can be told to do something at given steps."""

    def __init__(self, parameters, at):
        super().__init__(parameters, lr=0.1)
        self.at, self.taken = at, 0

    def step(self, closure=None):
        self.taken += 1
        self.at.get(self.taken, lambda: None)()
        super().step(closure)


def rival(name, at=None):
    """One that says it refreshes at every `interval`-th step."""

    def make(weights, _):
        return Toy(weights, at or {})

    return Rival(name, "toy 1", make, lambda step, every: step % every == 0)


def plan(*optimizers, **change):
    settled = Plan(
        networks=("toy",),
        optimizers={toy.name: toy for toy in optimizers},
        absent={},
        intervals=(1, 10),
        options=RivalOptions(interval=2),
        device=CPU,
        repeats=1,
        time_limit=30.0,
        memory=1e9,
    )
    return dataclasses.replace(settled, **change)


@pytest.fixture(autouse=True)
def toy_network(monkeypatch):
    shapes = model_shapes.shapes
    monkeypatch.setattr(model_shapes, "shapes", lambda name: TOY if name == "toy" else shapes(name))


# Clocks.


def test_clocks_tell_threads_and_processes_apart(monkeypatch):
    """In the clocks' own units: a call takes 5 ms, of which this thread is busy for 2."""
    for name, milliseconds in {"perf_counter": 5, "process_time": 3, "thread_time": 2}.items():
        readings = iter([1_000_000, 1_000_000 * (1 + milliseconds)])
        monkeypatch.setattr(clock.time, f"{name}_ns", readings.__next__)
    sample = timed(lambda: None, CPU, 30)
    assert sample == clock.Sample(cpu=3.0, thread=2.0, wall=5.0, device=None)
    assert summaries([sample]).keys() == {"cpu", "thread", "wall"}


def test_the_time_limit_ends_a_step_that_catches_everything():
    ended = threading.Event()

    def stubborn():
        while not ended.is_set():
            try:
                time.sleep(0.01)
            except Exception:
                continue

    with pytest.raises(StepTimeout):
        timed(stubborn, CPU, 0.05)
    time.sleep(0.06)  # which an alarm left behind would interrupt


def test_summary():
    assert summary([float(n) for n in range(200, 0, -1)]) == {
        "count": 200, "mean": 100.5, "min": 1, "median": 100.5, "p25": 50, "p75": 150, "p95": 190,
        "p99": 198, "max": 200,
    }  # fmt: skip


def test_the_load_of_a_machine_is_a_share_of_its_cores():
    load = machine.LoadMeter().report()
    assert load["seconds"] >= 0 and load["load_average"] >= 0
    assert 0 <= load["others_cpu_share"] <= 1


# Optimizers with weights of their own.


def test_gradients_are_fixed_and_unevenly_scaled():
    shapes = {"weight": (400, 3, 100), "bias": (5,)}
    first, again = gradients(shapes, CPU), gradients(shapes, CPU)
    assert all(torch.equal(a, b) for a, b in zip(first[2], again[2], strict=True))
    assert not torch.equal(first[0][0], first[1][0])
    rows = first[0][0].flatten(1).norm(dim=1)
    assert 30 < rows.max() / rows.min() < 300
    assert [grad.shape for grad in first[0]] == [(400, 3, 100), (5,)]


def test_optimizers_share_gradients_and_start_alike():
    sets = gradients(TOY, CPU)
    one, other = (
        SteppedOptimizer(rival(name), TOY, sets, RivalOptions(interval=2)) for name in "ab"
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters, other.parameters, strict=True))
    due = []
    for step in range(4):
        due.append(one.prepare())
        assert one.parameters[0].grad is sets[step % 3][0]
        one.step()
    assert due == [False, True, False, True]
    assert not torch.equal(one.parameters[0], other.parameters[0])


class Hoarder(Toy):
    """Holds tensors wherever Python can; state and weights share storages with some of them."""

    def __init__(self, parameters):
        super().__init__(parameters, {})
        packed = torch.zeros(10)
        self.state[parameters[0]] = {"nested": [{"packed": packed[2:], "again": packed[:4]}]}

        class Slotted:
            __slots__ = ("hidden",)

        box = Slotted()
        box.hidden = torch.zeros(100)
        self.box = {"box": (box, packed, parameters[0].detach(), parameters[0].grad)}
        self.box["self"] = (self.box,)


def test_memory_counts_each_storage_once_and_no_weights():
    hoarder = Rival("hoarder", "toy", lambda weights, _: Hoarder(weights), lambda *_: False)
    stepped = SteppedOptimizer(hoarder, TOY, gradients(TOY, CPU), RivalOptions())
    assert stepped.memory() == {"state_bytes": 40, "workspace_bytes": 400}


def test_memory_of_adamw():
    adamw = rivals.available()["adamw"]
    stepped = SteppedOptimizer(adamw, TOY, gradients(TOY, CPU), RivalOptions())
    stepped.prepare()
    stepped.step()
    # Two moments per weight and a step counter per tensor.
    assert stepped.memory() == {"state_bytes": 4 * (2 * 30 + 2), "workspace_bytes": 0}


def test_views_are_no_work():
    matrix = torch.ones(4, 4)
    assert operators(lambda: matrix.t().view(4, 4)[0].expand(3, 4)) == 0
    assert operators(lambda: torch._foreach_add_([matrix, matrix + 1], 1)) == 2


# Interleaving.


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_none_follows_itself_and_all_come_once_a_round(count):
    order = list(interleaved(range(count), 50))
    rounds = [order[start : start + count] for start in range(0, len(order), count)]
    assert all(sorted(one) == list(range(count)) for one in rounds)
    if count > 1:
        assert all(one != other for one, other in itertools.pairwise(order))
    if count > 2:
        assert len(set(itertools.pairwise(order))) == count * (count - 1), "any after any other"


def test_optimizers_are_interleaved_and_their_steps_are_sorted(monkeypatch):
    monkeypatch.setattr(measure, "_SMALL_FACTOR", 2)  # small networks get more cycles
    log = []
    names = ("adamw", "other", "third")
    toys = [rival(n, {s: lambda n=n: log.append(n) for s in range(1, 20)}) for n in names]
    result = measure.measure("toy", plan(*toys))
    first_steps = ["adamw"] * 3 + ["other"] * 3 + ["third"] * 3
    assert log == [*first_steps, *interleaved(names, 4)]
    assert [row["optimizer"] for row in result["rows"]] == list(names)
    for row in result["rows"]:
        assert (row["plain"]["cpu"]["count"], row["refresh"]["cpu"]["count"]) == (2, 2)
        assert row["failure"] is None
        assert row["plain_operators"] >= 1
    assert (result["parameters"], result["tensors"], result["settings"]["cycles"]) == (30, 2, 2)
    assert result["groups"][0]["optimizers"] == list(names)


def fail(error):
    def raise_it():
        raise error

    return raise_it


def test_failures_are_told_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(measure, "_SMALL_FACTOR", 1)

    def refuse(weights, options):
        raise ValueError("not on this planet")

    toys = [
        rival("adamw"),
        Rival("unbuilt", "toy", refuse, lambda *_: False),
        rival("at_once", {1: fail(RuntimeError("first"))}),
        rival("later", {5: fail(RuntimeError("fifth"))}),
        rival("slow", {4: fail(StepTimeout())}),
    ]
    measured = plan(*toys, repeats=2, absent={"gone": "no such module"})
    result = measure.measure("toy", measured)
    rows = {row["optimizer"]: row for row in result["rows"]}
    assert rows["unbuilt"]["failure"] == "ValueError: not on this planet"
    assert rows["at_once"]["failure"] == "RuntimeError: first"
    assert rows["later"]["failure"] == "RuntimeError: fifth"
    assert rows["slow"]["failure"] == "longer than 30 s"
    assert rows["gone"] == {"optimizer": "gone", "failure": None, "absent": "no such module"}
    assert rows["adamw"]["plain"]["cpu"]["count"] == 2
    text = report.step_cost({"toy": json.loads(json.dumps(result))})
    for name in ("unbuilt", "at_once", "later", "slow"):
        assert f"- {name}: {rows[name]['failure']}" in text
    assert "- gone: not here: no such module" in text


def test_groups_fit_into_memory_and_share_their_anchors():
    names = ["adamw", "a", "meta_shampoo", "b", "c", "d"]
    everything = plan(*map(rival, names))
    assert everything.groups(30) == [["adamw", "meta_shampoo", "a", "b", "c", "d"]]
    tight = dataclasses.replace(everything, memory=4.5 * measure._COPIES * 4 * 30)
    anchors = ["adamw", "meta_shampoo"]
    assert tight.groups(30) == [[*anchors, "a", "b"], [*anchors, "c", "d"]]
    # One at a time, however little there is.
    result = measure.measure("toy", plan(*map(rival, ("adamw", "a", "b")), memory=1))
    assert [group["optimizers"] for group in result["groups"]] == [["adamw", "a"], ["adamw", "b"]]
    assert all(row["ratio_to"]["adamw"]["plain"] > 0 for row in result["rows"])


# Tables.


def times(plain, refresh, failure=None):
    return {
        "failure": failure,
        "plain": {"cpu": summary([plain])},
        "refresh": None if refresh is None else {"cpu": summary([refresh])},
    }


def test_amortised_times_and_ratios():
    rows = {"adamw": times(2, None), "meta_shampoo": times(40, 240), "ours": times(10, 60)}
    report.derive(rows, (1, 10, 100))
    assert rows["ours"]["milliseconds"] == {
        "plain": 10,
        "refresh": 60,
        "refresh_part": 50,
        "amortised": {"1": 60, "10": 15, "100": 10.5},
    }
    assert rows["adamw"]["milliseconds"]["amortised"] == {"1": 2, "10": 2, "100": 2}
    against = rows["ours"]["ratio_to"]
    assert against["adamw"]["amortised"] == {"1": 30, "10": 7.5, "100": 5.25}
    assert against["adamw"]["refresh"] is None
    assert against["meta_shampoo"]["refresh_part"] == 0.25
    assert against["meta_shampoo"]["amortised"]["100"] == pytest.approx(10.5 / 42)


def test_ratios_are_of_device_clocks_and_need_a_baseline():
    on_gpu = {"cpu": summary([9.0]), "device": summary([3.0])}
    rows = {"adamw": times(2, None, "broken"), "ours": times(10, 60) | {"plain": on_gpu}}
    report.derive(rows, (1,))
    assert rows["ours"]["milliseconds"]["plain"] == 3
    assert rows["ours"]["ratio_to"] == {}


def test_staggering_measures_all_variants():
    spread = measure.staggering(CPU, 8, 0.0, 30.0, network="toy", interval=4)
    assert [row["variant"] for row in spread["rows"]] == list(measure.STAGGERING)
    for row in spread["rows"]:
        assert row["wall"]["count"] == 8
        ratio = row["p99_over_median"]["wall"]
        assert ratio == row["wall"]["p99"] / row["wall"]["median"] >= 1
    text = report.staggering(json.loads(json.dumps(spread)))
    assert all(f"| {name} " in text for name in measure.STAGGERING)


# The command line.


@pytest.mark.slow
def test_from_the_command_line(tmp_path):
    flags = ["--networks=small_200k", "--optimizers=ours_shampoo", "--threads=1", "--repeats=1"]
    flags += ["--block_size=64", "--cycle=2", "--precision=medium", f"--output={tmp_path}"]
    must_succeed(finish("-m", "scripts.benchmark.step", *flags))
    result = json.loads((tmp_path / "cpu.json").read_text())["small_200k"]
    assert [row["optimizer"] for row in result["rows"]] == ["adamw", "ours_shampoo"]
    expected = {"threads": 1, "block_size": 64, "intervals": [1, 10, 100]}
    expected |= {"float32_matmul_precision": "medium"}
    assert expected.items() <= result["settings"].items()
    ours = result["rows"][1]
    assert math.isfinite(ours["ratio_to"]["adamw"]["amortised"]["100"])
    assert ours["refresh_operators"] > ours["plain_operators"] > 0
    assert ours["state_bytes"] > 2 * 4 * 188_810
    text = (tmp_path / "cpu.md").read_text()
    assert text == report.step_cost({"small_200k": result})
    assert "188,810 parameters in 10 tensors" in text


@pytest.mark.parametrize("content", ["[]", '{"small_200k": {"rows": [1]}}'])
def test_a_file_of_another_kind_is_not_overwritten(tmp_path, content):
    path = tmp_path / "cpu.json"
    path.write_text(content)
    flags = ("--networks=small_200k", "--optimizers=adamw", f"--output={tmp_path}")
    line = must_refuse(finish("-m", "scripts.benchmark.step", *flags))
    assert f"{path} holds no step costs" in line
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--networks=alexnet", "--networks: alexnet; allowed: small_200k, resnet50"),
        ("--optimizers=adam", "--optimizers: adam; allowed: adamw"),
        ("--intervals=1,0", "--intervals: 1,0 given; allowed: integers >= 1"),
    ],
)
def test_wrong_values_end_in_one_line(tmp_path, flag, message):
    line = must_refuse(finish("-m", "scripts.benchmark.step", flag, f"--output={tmp_path}"))
    assert message in line
    assert list(tmp_path.iterdir()) == []
