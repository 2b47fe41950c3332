"""Several gloo ranks take the steps of one device."""

import functools

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from submission.shampoo import Shampoo
from submission.shampoo.config import DistributedConfig
from tests.submission.shampoo import ranks
from tests.submission.shampoo.streams import OPTIONS, VARIANTS, parameters

SHAPES = [(7,), (12, 9), (11, 2), (3, 4, 2, 2), (70, 3), (5, 1), (1, 5), (10, 10), (30, 2)]
SHAPES += [(5, 6, 17)]  # a stack
STEPS = 25
BY_ROWS, SPREAD = [Shard(0)], [Replicate(), Shard(0)]


def gradients(step, shapes=SHAPES):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def laid_out(mode, tensors):
    """The tensors as parameters that lie on the ranks as under DDP, FSDP2 or HSDP."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    if mode in ("one", "ddp"):
        return [torch.nn.Parameter(tensor.clone()) for tensor in tensors]
    if mode == "fsdp":
        mesh, places = init_device_mesh("cpu", (world,)), BY_ROWS
    else:
        mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("copies", "rows"))
        places = SPREAD
    if mode == "columns":  # tensor parallel within data parallel, the fallback
        return [
            torch.nn.Parameter(distribute_tensor(t, mesh, [Shard(0), Shard(t.dim() - 1)]))
            for t in tensors
        ]
    return [torch.nn.Parameter(distribute_tensor(t, mesh, places)) for t in tensors]


def like(parameter, tensor):
    tensor = tensor.to(parameter.dtype)
    if not hasattr(parameter, "device_mesh"):
        return tensor
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)


def full(parameter):
    parameter = parameter.detach()
    return (parameter.full_tensor() if hasattr(parameter, "device_mesh") else parameter).clone()


def weights_after(mode, options, steps=STEPS, dtype=torch.float32, absent=(), spoilt=()):
    """The weights after some steps of the stream, as every rank sees them."""
    weights = laid_out(mode, [p.detach() for p in parameters(SHAPES, dtype)])
    optimizer = Shampoo(weights, **{**OPTIONS, **options})
    for step in range(steps):
        for index, (weight, grad) in enumerate(zip(weights, gradients(step), strict=True)):
            if (step, index) in spoilt:
                grad = grad * torch.nan
            placed = like(weight, grad)  # a collective, on all ranks
            weight.grad = None if (step, index) in absent else placed
        optimizer.step()
    return [full(weight) for weight in weights]


def worst(weights, expected):
    pairs = zip(weights, expected, strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


# The whole matrix at four ranks, what is most unlike in it at other numbers of them.
FEW = ("shampoo", "soap", "kl_shampoo", "staggered", "adagrad", "ema")
MATRIX = [
    *(("ddp", 4, tuple(VARIANTS)), ("fsdp", 4, tuple(VARIANTS)), ("hsdp", 4, tuple(VARIANTS))),
    *(("ddp", 1, FEW), ("fsdp", 1, FEW), ("ddp", 2, FEW), ("fsdp", 2, FEW), ("ddp", 8, FEW)),
    *(("fsdp", 8, FEW), ("hsdp", 8, FEW), ("columns", 4, FEW)),
]
# Stochastic rounding draws other numbers for a block that lies elsewhere in its stack.
TOLERANCES = {"bfloat16 state": 1e-2}


@functools.cache
def on_one_device(name):
    return weights_after("one", VARIANTS[name])


def several(rank, mode, names):
    del rank
    return {name: weights_after(mode, VARIANTS[name]) for name in names}


@pytest.mark.parametrize(("mode", "world", "names"), MATRIX)
def test_takes_the_steps_of_one_device(mode, world, names):
    results = ranks.run(world, several, mode, names)
    errors = {
        name: max(worst(result[name], on_one_device(name)) for result in results) for name in names
    }
    assert not {n: e for n, e in errors.items() if not e <= TOLERANCES.get(n, 1e-6)}


def repeated(rank, mode, options, config):
    del rank
    return [weights_after(mode, {**options, "distributed": config}) for _ in range(2)]


CONFIGS = {
    "bfloat16": (DistributedConfig(communication_dtype=torch.bfloat16), 0.05),
    "parameters": (DistributedConfig(communicate="parameters"), 1e-6),
    "groups of two": (DistributedConfig(group_size=2), 1e-6),
    "one bucket": (DistributedConfig(buckets=1), 1e-6),
    "many buckets": (DistributedConfig(buckets=50), 1e-6),
    "none": (None, 1e-6),
}


@pytest.mark.parametrize("mode", ["ddp", "fsdp", "hsdp"])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_sent_and_to_whom_is_the_users_choice(mode, name):
    """And repeated runs are equal bit for bit, as are all ranks of one."""
    if mode != "ddp" and name in ("parameters", "none", "one bucket", "many buckets"):
        pytest.skip("for replicated parameters only")
    if (mode, name) == ("fsdp", "groups of two"):
        pytest.skip("shards belong together")
    config, tolerance = CONFIGS[name]
    first, *others = ranks.run(4, repeated, mode, {}, config)
    assert worst(first[0], on_one_device("shampoo")) <= tolerance
    for weights in [first[1], *(run for rank in others for run in rank)]:
        assert all(torch.equal(a, b) for a, b in zip(weights, first[0], strict=True))


def fast_iterates(rank, mode, config):
    """What schedule-free averaging keeps in float32 beside bfloat16 weights."""
    del rank
    weights = laid_out(mode, [p.detach() for p in parameters(SHAPES, torch.bfloat16)])
    options = {**OPTIONS, **VARIANTS["schedule_free"], "lr": 1e-4}
    optimizer = Shampoo(weights, **options, distributed=config)
    for step in range(8):
        for weight, grad in zip(weights, gradients(step), strict=True):
            weight.grad = like(weight, grad)
        optimizer.step()
    return [optimizer.state[weight]["z"] for weight in weights]


def test_sent_parameters_are_those_that_a_step_moves():
    """Copies in the state's dtype, whose displacements bfloat16 would round."""
    expected = fast_iterates(0, "one", None)
    config = DistributedConfig(communicate="parameters")
    for iterates in ranks.run(2, fast_iterates, "ddp", config):
        assert worst(iterates, expected) <= 1e-5


def in_bfloat16(rank, configs):
    del rank
    options = [{"distributed": config} for config in configs]
    return [weights_after("columns", chosen, 4, torch.bfloat16) for chosen in options]


def test_parameters_that_are_put_together_take_updates():
    configs = [DistributedConfig(communicate=kind) for kind in ("updates", "parameters")]
    for updates, sent in ranks.run(4, in_bfloat16, configs):
        assert all(map(torch.equal, updates, sent))


def states_after(rank, mode, config):
    """What an optimizer says of itself once it has stepped: bytes of its state, bytes it sends."""
    del rank
    weights = laid_out(mode, [p.detach() for p in parameters(SHAPES, torch.float32)])
    optimizer = Shampoo(weights, **OPTIONS, distributed=config)
    for weight, grad in zip(weights, gradients(0), strict=True):
        weight.grad = like(weight, grad)
    optimizer.step()
    diagnostics = optimizer.diagnostics()
    return diagnostics["state_bytes"], diagnostics["bytes_sent_per_step"]


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_state_is_divided_and_options_show_in_what_is_sent(mode):
    whole = states_after(0, "one", None)
    assert whole[1] == 0
    shares = ranks.run(4, states_after, mode, DistributedConfig())
    assert max(share for share, _ in shares) < 0.5 * whole[0]
    short = ranks.run(4, states_after, mode, DistributedConfig(communication_dtype=torch.bfloat16))
    assert [sent for _, sent in short] == [sent // 2 for _, sent in shares]


def wrong_size(rank):
    del rank
    weights = laid_out("fsdp", gradients(0))
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    with pytest.raises(ValueError, match="group_size") as caught:
        Shampoo(weights, distributed=DistributedConfig(group_size=3)).step()
    return str(caught.value)


def kept_whole(rank):
    """A row for two ranks, of which one has all and one nothing."""
    del rank
    said = []
    for shape in ((6, 5), (1, 5)):
        with pytest.raises(ValueError, match="distributed must not be None") as caught:
            Shampoo(laid_out("fsdp", gradients(0, [shape])), distributed=None)
        said.append(str(caught.value))
    return said


def test_shards_cannot_be_kept_whole_on_every_rank():
    (first, _), (_, last) = ranks.run(2, kept_whole)
    assert "shape (6, 5) that this rank has (3, 5) of" in first
    assert "shape (1, 5) that this rank has (0, 5) of" in last


def test_a_group_size_that_does_not_fit_is_refused():
    assert "got 3" in ranks.run(2, wrong_size)[0]


def in_halves(rank, kind):
    """Half of the ranks train one model, half another, each in groups of two."""
    half, halves = rank // 4, torch.arange(8).view(2, 4)
    start, *grads = (gradients(10 * half + step, [(6, 5)])[0] for step in range(5))
    if kind == "replicas":
        group = [dist.new_group(members.tolist()) for members in halves][half]
        weight = torch.nn.Parameter(start.clone())
    else:
        group, mesh = None, [DeviceMesh("cpu", members.view(2, 2)) for members in halves][half]
        weight = torch.nn.Parameter(distribute_tensor(start, mesh, [Shard(0), Shard(1)]))
    config = DistributedConfig(group=group, group_size=2)
    alone = torch.nn.Parameter(start.clone())
    optimizers = [Shampoo([weight], **OPTIONS, distributed=config)]
    optimizers += [Shampoo([alone], **OPTIONS, distributed=None)]
    for grad in grads:
        weight.grad, alone.grad = like(weight, grad), grad
        for optimizer in optimizers:
            optimizer.step()
    return worst([full(weight)], [alone])


@pytest.mark.parametrize("kind", ["replicas", "a mesh without names"])
def test_groups_of_a_part_of_all_ranks_need_no_others(kind):
    assert max(ranks.run(8, in_halves, kind)) <= 1e-9


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"group": dist.GroupMember.NON_GROUP_MEMBER}, "group must be None or a process group"),
        ({"communication_dtype": torch.float16}, "communication_dtype must be one of"),
        ({"communicate": "gradients"}, "communicate must be one of"),
        ({"group_size": 0}, "group_size must be None or an integer >= 1, got 0"),
        ({"buckets": 0}, "buckets must be an integer >= 1, got 0"),
    ],
)
def test_refuses_what_it_cannot_do(bad, said):
    with pytest.raises(ValueError, match=said):
        DistributedConfig(**bad)
    with pytest.raises(ValueError, match="distributed must be"):
        Shampoo(parameters(), distributed="all")


def some_are_spoilt(rank, mode):
    """Only one rank sees the NaN."""
    spoilt = {(4, 1), (9, 3)} if rank == 1 or mode != "ddp" else set()
    return weights_after(mode, {}, spoilt=spoilt)


ABSENT = {(step, index) for step in range(STEPS) for index in (1, 7)} | {(3, 0), (8, 4)}


def some_are_absent(rank, mode):
    del rank
    return weights_after(mode, {}, absent=ABSENT)


def without_gradients(rank, mode):
    """Rank 2 has none after the first step, which would refuse that."""
    absent = {(step, index) for step in range(1, STEPS) for index in range(len(SHAPES))}
    return weights_after(mode, {}, absent=absent if rank == 2 else ())


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_rank_without_gradients_joins_in(mode):
    replicas = ranks.run(4, without_gradients, mode)
    assert all(weight.isfinite().all() for weights in replicas for weight in weights)
    if mode == "ddp":  # its own blocks stay, and the replicas stay equal
        for weights in replicas:
            assert all(torch.equal(a, b) for a, b in zip(weights, replicas[0], strict=True))


def changing(rank, mode):
    """Other blocks in mid-run, and a parameter that is frozen at first."""
    del rank
    weights = laid_out(mode, [p.detach() for p in parameters(SHAPES, torch.float32)])
    optimizer = Shampoo(weights, **OPTIONS)
    weights[1].requires_grad_(False)
    for step in range(12):
        if step == 4:
            optimizer.param_groups[0]["block_size"] = 4
        if step == 8:
            weights[1].requires_grad_(True)
        for weight, grad in zip(weights, gradients(step), strict=True):
            placed = like(weight, grad)
            weight.grad = placed if weight.requires_grad else None
        optimizer.step()
    return [full(weight) for weight in weights]


def mixed(rank, world):
    """Groups and layouts side by side: replicated and sharded, float32, bfloat16 and float64."""
    del rank
    kinds = ("ddp", "fsdp", "ddp", "fsdp") if world > 1 else ("one",) * 4
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float32)
    weights = []
    for kind, dtype in zip(kinds, dtypes, strict=True):
        weights += laid_out(kind, [p.detach() for p in parameters([(6, 5), (4,)], dtype)])
    groups = [{"params": weights[:5]}, {"params": weights[5:], "method": "soap", "lr": 0.02}]
    optimizer = Shampoo(groups, **OPTIONS)
    for step in range(6):
        grads = gradients(step, [weight.shape for weight in weights])
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = like(weight, grad)
        optimizer.step()
    return [full(weight).double() for weight in weights]


def test_groups_that_lie_differently_go_side_by_side():
    expected = mixed(0, 1)
    for weights in ranks.run(2, mixed, 2):
        assert worst(weights, expected) <= 1e-2  # of a unit of bfloat16
        assert worst(weights[:4] + weights[6:], expected[:4] + expected[6:]) <= 1e-6


def of_few_blocks(rank, mode, *shapes):
    """Weights from ones, of which rank 3 is then given the state."""
    del rank
    weights = laid_out(mode, [torch.ones(shape) for shape in shapes])
    optimizer = Shampoo(weights, **OPTIONS)
    for step in range(5):
        for weight, grad in zip(weights, gradients(step, shapes), strict=True):
            weight.grad = like(weight, grad)
        optimizer.step()
    optimizer.consolidate_state_dict(to=3 if mode != "one" else 0)
    return [full(weight) for weight in weights]


@pytest.mark.parametrize("mode", ["ddp", "fsdp", "hsdp"])
@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (some_are_spoilt, []),
        (some_are_absent, []),
        (changing, []),
        pytest.param(of_few_blocks, [(3, 3), (2,)], id="fewer blocks than ranks"),
        # Of which shards have parts.
        pytest.param(of_few_blocks, [(70_001,), (4, 3)], id="a vector of one block"),
    ],
)
def test_special_cases_take_the_steps_of_one_device(function, mode, shapes):
    expected = function(0, "one", *shapes)
    for weights in ranks.run(4, function, mode, *shapes):
        assert worst(weights, expected) <= 1e-6


def scaled(rank, mode):
    """Under a GradScaler whose inf only rank 1 has found: it is that rank's alone."""
    weights = laid_out(mode, [torch.eye(4)])
    optimizer = Shampoo(weights, **OPTIONS)
    before = full(weights[0])
    weights[0].grad = like(weights[0], torch.ones(4, 4))
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(float(rank == 1))
    optimizer.step()
    return torch.equal(full(weights[0]), before), optimizer.diagnostics()["skipped_steps"]


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_an_overflow_that_one_scaler_has_found_skips_all(mode):
    assert ranks.run(2, scaled, mode) == [(True, 1), (True, 1)]
