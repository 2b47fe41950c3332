"""The benchmark of optimizer steps: clocks, memory, turns, failures, tables, command line."""

import dataclasses
import json
import math
import threading
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from common.cli import UserError
from scripts.benchmark import clock as benchmark_clock
from scripts.benchmark import measure as benchmark_measure
from scripts.benchmark import network_shapes
from scripts.benchmark import report as benchmark_report
from scripts.benchmark import staggering as benchmark_staggering
from scripts.benchmark import step as benchmark_step
from scripts.benchmark.clock import StepTimeout, Watch, summaries, summary, timed
from scripts.benchmark.contestant import Contestant, gradients, operators
from scripts.benchmark.measure import Plan
from scripts.benchmark.network_shapes import Shapes
from scripts.local import environment, rivals
from scripts.local.rivals import Rival, RivalOptions
from tests.scripts.commands import finish

CPU = torch.device("cpu")
TOY: Shapes = {"weight": (6, 4), "bias": (6,)}


class Toy(torch.optim.SGD):
    """Gradient descent that can be told to do something at given steps."""

    def __init__(self, parameters: Sequence[Tensor], at: dict[int, Callable[[], Any]]) -> None:
        super().__init__(parameters, lr=0.1)
        self.at, self.taken = at, 0

    def step(self, closure: Any = None) -> None:
        self.taken += 1
        self.at.get(self.taken, lambda: None)()
        super().step(closure)


def rival(name: str, at: dict[int, Callable[[], Any]] | None = None) -> Rival:
    """One that says it refreshes at every `interval`-th step."""
    make: rivals.Make = lambda weights, _: Toy(weights, at or {})  # noqa: E731
    return Rival(name, "toy 1", make, lambda step, every: step % every == 0)


def plan(optimizers: Sequence[Rival], **change: Any) -> Plan:
    settled = Plan(
        networks=("toy",),
        optimizers={each.name: each for each in optimizers},
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
def toy_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(network_shapes._NETWORKS, "toy", lambda: TOY)
    monkeypatch.setattr(benchmark_measure, "_SMALL_FACTOR", 1)


# Clocks.


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_clocks_tell_waiting_from_working() -> None:
    asleep = timed(lambda: time.sleep(0.05), CPU, 30)
    assert asleep.wall >= 50
    assert asleep.cpu < 40
    at_work = timed(lambda: busy(0.05), CPU, 30)
    assert 50 <= at_work.thread <= at_work.cpu + 1
    assert at_work.device is None


def test_a_clock_sees_other_threads() -> None:
    def work() -> None:
        worker = threading.Thread(target=busy, args=(0.05,))
        worker.start()
        worker.join()

    sample = timed(work, CPU, 30)
    assert sample.cpu >= 50
    assert sample.thread < 40


def test_the_time_limit_ends_a_step_that_catches_everything() -> None:
    def stubborn() -> None:
        for _ in range(1000):
            try:
                time.sleep(0.01)
            except Exception:
                continue

    start = time.monotonic()
    with pytest.raises(StepTimeout):
        timed(stubborn, CPU, 0.05)
    assert time.monotonic() - start < 5
    # No alarm is left behind.
    time.sleep(0.06)


def test_summary() -> None:
    numbers = summary([float(n) for n in range(200, 0, -1)])
    assert numbers == {
        "count": 200, "mean": 100.5, "min": 1, "median": 100.5, "p25": 50, "p75": 150, "p95": 190,
        "p99": 198, "max": 200,
    }  # fmt: skip
    sample = timed(lambda: None, CPU, 30)
    assert summaries([sample]).keys() == {"cpu", "thread", "wall"}


def test_the_watch_tells_others_share_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = types.SimpleNamespace(
        monotonic=iter([0.0, 10.0]).__next__, process_time=iter([1.0, 4.0]).__next__
    )
    monkeypatch.setattr(benchmark_clock, "time", clocks)
    monkeypatch.setattr(benchmark_clock, "_busy_seconds", iter([100.0, 108.0]).__next__)
    monkeypatch.setattr(environment, "available_cores", lambda: [0, 1])
    seen = Watch().report()
    # Of 20 core seconds, 8 were busy, and 3 of those with this process.
    assert (seen["seconds"], seen["others_cpu_share"]) == (10, 0.25)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_the_machines_busy_time_grows_with_work() -> None:
    before = benchmark_clock._busy_seconds()
    busy(0.1)
    after = benchmark_clock._busy_seconds()
    assert before is not None and after is not None
    # In ticks of 10 ms, per core.
    assert 0.05 <= after - before < 60


# Contestants.


def test_gradients_are_fixed_and_unevenly_scaled() -> None:
    shapes: Shapes = {"weight": (400, 3, 100), "bias": (5,)}
    first, again = gradients(shapes, CPU), gradients(shapes, CPU)
    assert all(torch.equal(a, b) for a, b in zip(first[2], again[2], strict=True))
    assert not torch.equal(first[0][0], first[1][0])
    rows = first[0][0].flatten(1).norm(dim=1)
    assert 30 < rows.max() / rows.min() < 300
    assert [grad.shape for grad in first[0]] == [(400, 3, 100), (5,)]


def test_contestants_take_gradients_in_rotation_and_share_them() -> None:
    sets = gradients(TOY, CPU)
    one, other = (Contestant(rival(name), TOY, sets, RivalOptions(interval=2)) for name in "ab")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters, other.parameters, strict=True))
    due = []
    for turn in range(4):
        due.append(one.prepare())
        assert one.parameters[0].grad is sets[turn % 3][0]
        one.step()
    assert due == [False, True, False, True]
    assert not torch.equal(one.parameters[0], other.parameters[0])


class Hoarder(Toy):
    """Holds tensors wherever Python can; state and weights share storages with some of them."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__(parameters, {})
        packed = torch.zeros(10)
        self.state[parameters[0]] = {"nested": [{"packed": packed[2:], "again": packed[:4]}]}

        class Slotted:
            __slots__ = ("hidden",)

        box = Slotted()
        box.hidden = torch.zeros(100)  # type: ignore[attr-defined]
        self.box = {"box": (box, packed, parameters[0].detach(), parameters[0].grad)}
        self.box["self"] = (self.box,)


def test_memory_counts_each_storage_once_and_no_weights() -> None:
    maker = Rival("hoarder", "toy", lambda weights, _: Hoarder(weights), lambda *_: False)
    contestant = Contestant(maker, TOY, gradients(TOY, CPU), RivalOptions())
    assert contestant.memory() == {"state_bytes": 40, "workspace_bytes": 400}


def test_memory_of_adamw() -> None:
    adamw = rivals.available()["adamw"]
    contestant = Contestant(adamw, TOY, gradients(TOY, CPU), RivalOptions())
    contestant.prepare()
    contestant.step()
    # Two moments per weight and a step counter per tensor.
    assert contestant.memory() == {"state_bytes": 4 * (2 * 30 + 2), "workspace_bytes": 0}


def test_views_are_no_work() -> None:
    matrix = torch.ones(4, 4)
    assert operators(lambda: matrix.t().view(4, 4)[0].expand(3, 4)) == 0
    assert operators(lambda: torch._foreach_add_([matrix, matrix + 1], 1)) == 2


# Taking turns.


def test_optimizers_take_turns_and_their_steps_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    names = ("adamw", "other", "third")
    steps = range(1, 20)
    toys = [rival(n, {s: lambda n=n: log.append(n) for s in steps}) for n in names]
    result = benchmark_measure.measure("toy", plan(toys, repeats=2))
    first_steps = ["adamw"] * 3 + ["other"] * 3 + ["third"] * 3
    forward, backward = ["adamw", "other", "third"], ["third", "other", "adamw"]
    assert log == first_steps + (forward + backward) * 2
    assert [row["optimizer"] for row in result["rows"]] == list(names)
    for row in result["rows"]:
        assert (row["plain"]["cpu"]["count"], row["refresh"]["cpu"]["count"]) == (2, 2)
        assert row["failure"] is None
        assert row["plain_operators"] >= 1
    assert (result["parameters"], result["tensors"]) == (30, 2)
    assert result["groups"][0]["optimizers"] == list(names)


def test_small_networks_get_more_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_measure, "_SMALL_FACTOR", 5)
    result = benchmark_measure.measure("toy", plan([rival("adamw")], repeats=2))
    assert result["rows"][0]["refresh"]["cpu"]["count"] == 10
    assert result["settings"]["cycles"] == 10


def fail(message: str) -> Callable[[], None]:
    def raise_it() -> None:
        raise RuntimeError(message)

    return raise_it


def test_failures_are_told_and_the_others_go_on() -> None:
    def refuse(weights: Any, options: Any) -> Any:
        raise ValueError("not on this planet")

    toys = [
        rival("adamw"),
        Rival("unbuilt", "toy", refuse, lambda *_: False),
        rival("at_once", {1: fail("first")}),
        rival("later", {5: fail("fifth")}),
        rival("slow", {4: lambda: time.sleep(30)}),
    ]
    measured = plan(toys, repeats=2, time_limit=1.0, absent={"gone": "no such module"})
    result = benchmark_measure.measure("toy", measured)
    rows = {row["optimizer"]: row for row in result["rows"]}
    assert rows["unbuilt"]["failure"] == "ValueError: not on this planet"
    assert rows["at_once"]["failure"] == "RuntimeError: first"
    assert rows["later"]["failure"] == "RuntimeError: fifth"
    assert rows["slow"]["failure"] == "a step took longer than 1 s"
    assert rows["gone"] == {"optimizer": "gone", "failure": None, "absent": "no such module"}
    assert rows["adamw"]["plain"]["cpu"]["count"] == 2
    text = benchmark_report.step_cost({"toy": json.loads(json.dumps(result))})
    for name in ("unbuilt", "at_once", "later", "slow"):
        assert f"- {name}: {rows[name]['failure']}" in text
    assert "- gone: not here: no such module" in text


def test_groups_fit_into_memory_and_share_their_anchors() -> None:
    names = ["adamw", "a", "meta_shampoo", "b", "c", "d"]
    everything = plan([rival(name) for name in names])
    assert everything.groups(30) == [["adamw", "meta_shampoo", "a", "b", "c", "d"]]
    tight = dataclasses.replace(everything, memory=4.5 * benchmark_measure._COPIES * 4 * 30)
    anchors = ["adamw", "meta_shampoo"]
    assert tight.groups(30) == [[*anchors, "a", "b"], [*anchors, "c", "d"]]
    # One at a time, however little there is.
    assert dataclasses.replace(everything, memory=1).groups(30)[3] == [*anchors, "d"]
    assert plan([rival("adamw")]).groups(30) == [["adamw"]]


def test_all_groups_are_measured() -> None:
    toys = [rival(name) for name in ("adamw", "a", "b")]
    result = benchmark_measure.measure("toy", plan(toys, memory=1))
    assert [group["optimizers"] for group in result["groups"]] == [["adamw", "a"], ["adamw", "b"]]
    assert all(row["ratio_to"]["adamw"]["plain"] > 0 for row in result["rows"])


# Tables.


def clock(plain: float, refresh: float | None, **more: Any) -> dict[str, Any]:
    return {
        "failure": None,
        "plain": {"cpu": summary([plain])},
        "refresh": None if refresh is None else {"cpu": summary([refresh])},
        **more,
    }


def test_amortised_times_and_ratios() -> None:
    rows = {"adamw": clock(2, None), "meta_shampoo": clock(40, 240), "ours": clock(10, 60)}
    benchmark_report.derive(rows, (1, 10, 100))
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


def test_a_device_clock_is_what_counts_where_there_is_one() -> None:
    on_gpu = {"cpu": summary([9.0]), "device": summary([3.0])}
    rows = {"ours": {"failure": None, "plain": on_gpu, "refresh": None}}
    benchmark_report.derive(rows, (1,))
    assert rows["ours"]["milliseconds"]["plain"] == 3


def test_ratios_need_a_baseline() -> None:
    rows = {"adamw": clock(2, None, failure=None), "ours": clock(10, 60)}
    rows["adamw"]["failure"] = "broken"
    benchmark_report.derive(rows, (1,))
    assert rows["ours"]["ratio_to"] == {}


# Staggering.


def test_staggering_measures_all_variants() -> None:
    with benchmark_measure.collector_off():
        spread = benchmark_staggering.measure(CPU, 8, 0.0, 30.0, network="toy", interval=4)
    spread["settings"] |= benchmark_measure.conditions(CPU)
    assert [row["variant"] for row in spread["rows"]] == list(benchmark_staggering.VARIANTS)
    for row in spread["rows"]:
        assert row["wall"]["count"] == 8
        ratio = row["p99_over_median"]["wall"]
        assert ratio == row["wall"]["p99"] / row["wall"]["median"] >= 1
    text = benchmark_report.staggering(json.loads(json.dumps(spread)))
    assert all(f"| {name} " in text for name in benchmark_staggering.VARIANTS)


# The command line.


def test_from_the_command_line(tmp_path: Path) -> None:
    flags = ["--networks=small_200k", "--optimizers=ours_shampoo", "--threads=1", "--repeats=1"]
    flags += ["--block_size=64", "--cycle=2", f"--output={tmp_path}"]
    done = finish("-m", "scripts.benchmark.step", *flags)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "cpu.json").read_text())["small_200k"]
    assert [row["optimizer"] for row in result["rows"]] == ["adamw", "ours_shampoo"]
    settings = result["settings"]
    assert (settings["threads"], settings["block_size"], settings["intervals"]) == (
        1,
        64,
        [1, 10, 100],
    )
    ours = result["rows"][1]
    assert math.isfinite(ours["ratio_to"]["adamw"]["amortised"]["100"])
    assert ours["refresh_operators"] > ours["plain_operators"] > 0
    assert ours["state_bytes"] > 2 * 4 * 188_810
    text = (tmp_path / "cpu.md").read_text()
    assert text == benchmark_report.step_cost({"small_200k": result})
    assert "188,810 parameters in 10 tensors" in text


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--networks=alexnet", "--networks: alexnet; allowed: small_200k, resnet50"),
        ("--optimizers=adam", "--optimizers: unknown adam; known: adamw"),
    ],
)
def test_wrong_names_end_in_one_line(tmp_path: Path, flag: str, message: str) -> None:
    done = finish("-m", "scripts.benchmark.step", flag, f"--output={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["", "1,0", "1,-1", "ten"])
def test_wrong_intervals_are_refused(given: str) -> None:
    with pytest.raises(UserError, match=r"--intervals: .*allowed: positive integers"):
        benchmark_step._intervals(given.split(",") if given else [])
