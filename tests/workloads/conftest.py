import pytest

from workloads import registry


@pytest.fixture(scope="module", autouse=True)
def on_the_cpu():
    """These tests compare tables and bits with NumPy's, so a GPU is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: False)
        yield


@pytest.fixture(scope="module", params=registry.names("standin"))
def workload(request):
    """Each stand-in, its data loaded once for all tests; they must not change its tables."""
    return registry.load(request.param)
