import subprocess
import sys

import pytest

from common import files
from common.cli import UserError
from submission.algoperf_api import spec
from submission.algoperf_api.batch_sizes import get_batch_size
from workloads import registry
from workloads.standin.facts import TARGETS_FILE
from workloads.standin.packaged_data import locate
from workloads.standin.parameters import parameter_type


def test_an_unknown_workload_is_named_with_the_known_ones():
    with pytest.raises(UserError, match=r"unknown workload 'mnst'; known: mnist_vit"):
        registry.facts("mnst")
    for train in (registry.load, registry.check_trains_here):
        with pytest.raises(UserError, match=r"'mnst'; those that train here are: mnist_vit, .*\?"):
            train("mnst")


def test_the_registry_lists_stand_ins_in_the_order_of_their_facts_and_loads_them():
    rows = files.read_json(TARGETS_FILE.with_name("facts.json"))
    assert registry.names("standin") == list(rows)
    for name in rows:
        workload = registry.load(name)
        assert isinstance(workload, spec.Workload)
        assert workload.name == name
        assert get_batch_size(name) > 0


def test_a_row_of_facts_is_all_that_makes_a_stand_in_known():
    code = (
        "import workloads.standin.facts as f\n"
        "f._SIZES['new_one'] = f._SIZES['mnist_vit']\n"
        "from workloads import registry\n"
        "registry.check_trains_here('new_one'); registry.load('new_one')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip().endswith("No module named 'workloads.standin.new_one'")


def test_importing_the_registry_loads_no_deep_learning_framework():
    code = "import sys, workloads.registry; print({'torch', 'jax', 'pandas'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_missing_data_is_named():
    for package in ("no_such_package", "json"):
        with pytest.raises(UserError, match=rf"{package}.*no/such/file.csv"):
            locate(package, "no/such/file.csv")


def test_an_attention_parameter_of_unknown_role_is_refused():
    with pytest.raises(ValueError, match=r"attention\.gate\.weight"):
        parameter_type("blocks.0.attention.gate.weight")


@pytest.mark.parametrize("name", ["param_shapes", "model_params_types"])
def test_shapes_and_types_are_unknown_before_the_model_is(name):
    with pytest.raises(ValueError, match="init_model_fn"):
        getattr(registry.load("mnist_vit"), name)
