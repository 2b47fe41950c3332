"""The adapters of all optimizers: those installed take steps, the others' calls are recorded."""

import sys
import types

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.local import rivals
from scripts.local.rivals import RivalOptions

OURS = ("ours_shampoo", "ours_soap", "ours_kl_shampoo")
INSTALLABLE = {
    "distributed_shampoo": ("meta_shampoo", "meta_soap", "meta_soap_qr", "meta_kl_shampoo"),
    "pytorch_optimizer": ("po_soap", "po_dash"),
    "heavyball": ("hb_soap",),
}
EVERYWHERE = ("adamw", "nadamw", "muon", *OURS)


OPTIONS = RivalOptions(
    lr=0.5, betas=(0.8, 0.99), eps=1e-4, weight_decay=0.25, block_size=64, interval=7
)


class Decompositions(TorchDispatchMode):
    """Whether anything was decomposed."""

    seen = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.seen |= "eigh" in name or "linalg_qr" in name
        return func(*args, **(kwargs or {}))


def parameters():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in ((24, 16), (16,), (4, 2, 3, 3))]


def walk(rival, options, steps):
    """Weights after some steps, and the numbers of the steps that decomposed a matrix."""
    weights = parameters()
    optimizer = rival.make(weights, options)
    decomposed = []
    for step in range(1, steps + 1):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        with Decompositions() as counter:
            optimizer.step()
        if counter.seen:
            decomposed.append(step)
    return weights, decomposed


def test_every_name_is_available_or_absent_with_a_reason():
    available, missing = rivals.available(), rivals.absent()
    names = {*EVERYWHERE, *(name for names in INSTALLABLE.values() for name in names)}
    assert available.keys() | missing.keys() == names
    assert not available.keys() & missing.keys()
    assert set(EVERYWHERE) <= available.keys()
    assert all(missing.values())
    assert all(rival.name == name and rival.package_version for name, rival in available.items())


@pytest.mark.parametrize("module", INSTALLABLE)
def test_what_cannot_be_imported_is_listed(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert not rivals.available().keys() & set(INSTALLABLE[module])
    for name in INSTALLABLE[module]:
        assert rivals.absent()[name].startswith("ModuleNotFoundError")


@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize("name", rivals.available())
def test_refreshes_where_it_says(name, interval):
    rival = rivals.available()[name]
    shampoo_options = {"refresh": "together"} if name in OURS else {}
    options = RivalOptions(interval=interval, block_size=16, shampoo_options=shampoo_options)
    steps = 3 * interval + 2
    weights, decomposed = walk(rival, options, steps)
    expected = [step for step in range(1, steps + 1) if rival.refreshes_at(step, interval)]
    assert decomposed == expected
    for weight, before in zip(weights, parameters(), strict=True):
        assert weight.isfinite().all()
        assert not torch.equal(weight, before)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_options_arrive(name):
    shampoo_options = {"damping": 0.01, "refresh": "together"} if name in OURS else {}
    options = RivalOptions(
        **{**vars(OPTIONS), "nesterov": name in OURS, "shampoo_options": shampoo_options}
    )
    group = rivals.available()[name].make(parameters(), options).param_groups[-1]  # Muon's AdamW
    expected = SHARED | shampoo_options
    if name in OURS:
        expected |= {"block_size": 64, "refresh_interval": 7, "nesterov": True}
        expected["method"] = name.removeprefix("ours_")
    assert expected.items() <= group.items()
    assert name.startswith("ours_") or group.get("fused", True)


class Recorder:
    """A module whose every attribute is a callable that records what it was given."""

    def __init__(self):
        self.calls = {}
        self.utils = types.SimpleNamespace(compile_mode="default")
        self.__file__ = __file__

    def __getattr__(self, name):
        def call(*arguments, **options):
            self.calls[name] = options
            return name

        return call


def recorded(monkeypatch, module, name, **change):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, module, recorder)
    monkeypatch.setattr(rivals.importlib.metadata, "version", lambda name: "9")
    rivals.available()[name].make(parameters(), RivalOptions(**{**vars(OPTIONS), **change}))
    return recorder


SHARED = {"lr": 0.5, "betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.25}
META = {
    "lr": 0.5,
    "betas": (0.8, 0.99),
    "beta3": -1.0,
    "weight_decay": 0.25,
    "max_preconditioner_dim": 64,
    "precondition_frequency": 7,
    "start_preconditioning_step": 7,
}


@pytest.mark.parametrize("name", INSTALLABLE["distributed_shampoo"])
def test_what_meta_is_asked_for(monkeypatch, name):
    calls = recorded(monkeypatch, "distributed_shampoo", name).calls
    given = calls["DistributedShampoo"]
    assert META.items() <= given.items()
    assert given["epsilon"] == (1e-12 if "soap" in name else 1e-4)
    grafting = None if "soap" in name else {"beta2": 0.99, "epsilon": 1e-4}
    assert calls.get("AdamPreconditionerConfig") == grafting
    assert (given["grafting_config"] is None) == (grafting is None)
    if name == "meta_kl_shampoo":
        override = calls["RootInvKLShampooPreconditionerConfig"]["inverse_exponent_override"]
        assert override == {2: 0.5}


def test_metas_look_ahead_is_nadams(monkeypatch):
    calls = recorded(monkeypatch, "distributed_shampoo", "meta_shampoo", nesterov=True).calls
    beta3 = calls["DistributedShampoo"]["beta3"]
    beta1, old, gradient = 0.8, 3.0, 5.0
    nadam = beta1 * (beta1 * old + (1 - beta1) * gradient) + (1 - beta1) * gradient
    assert beta3 * old + (1 - beta3) * gradient == pytest.approx(nadam)


@pytest.mark.parametrize(
    ("module", "name", "more"),
    [
        ("pytorch_optimizer", "po_soap", {"max_precondition_dim": 64}),
        ("pytorch_optimizer", "po_dash", {"block_size": 64, "inverse_root_method": "eigh"}),
        ("heavyball", "hb_soap", {"max_precond_dim": 64, "shampoo_beta": 0.99}),
    ],
)
def test_what_the_others_are_asked_for(monkeypatch, module, name, more):
    recorder = recorded(monkeypatch, module, name)
    (given,) = recorder.calls.values()
    assert (SHARED | {"precondition_frequency": 7} | more).items() <= given.items()
    assert recorder.utils.compile_mode == (None if module == "heavyball" else "default")


@pytest.mark.parametrize("module", ["pytorch_optimizer", "heavyball"])
def test_a_missing_look_ahead_is_refused(monkeypatch, module):
    for name in INSTALLABLE[module]:
        with pytest.raises(ValueError, match="no look-ahead"):
            recorded(monkeypatch, module, name, nesterov=True)
    with pytest.raises(ValueError, match="no look-ahead"):
        rivals.available()["adamw"].make(parameters(), RivalOptions(nesterov=True))
    with pytest.raises(ValueError, match="no choice of exponent"):
        rivals.available()["adamw"].make(parameters(), RivalOptions(exponent=0.5))


def test_where_metas_code_comes_from(monkeypatch, tmp_path):
    package = tmp_path / "distributed_shampoo" / "__init__.py"
    module = types.SimpleNamespace(__file__=str(package))
    if "torch-shampoo" in {d.name for d in rivals.importlib.metadata.distributions()}:
        pytest.skip("Meta's package is installed and has a version")
    monkeypatch.setitem(sys.modules, "distributed_shampoo", module)
    version = rivals.available()["meta_shampoo"].package_version
    assert version == "facebookresearch/optimizers of unknown commit"
    (tmp_path / "COMMIT").write_text("abc123\n")
    version = rivals.available()["meta_shampoo"].package_version
    assert version == "facebookresearch/optimizers abc123"


def test_heavyballs_schedule_adds_up_in_floating_point():
    hb_refreshes = rivals.hb_soap_refreshes
    # Ten tenths are less than one, so that the first refresh comes a step late.
    assert [step for step in range(1, 31) if hb_refreshes(step, 10)] == [1, 11, 20, 30]
