"""Global batch sizes: the one thing that may differ per workload under AlgoPerf's rules."""

# Official ones as in the benchmark's baselines (target_setting_algorithms, commit 2c90454f), with
# half the batch for the two ResNet variants that need the memory; stand-ins as their sizes ask.
_BATCH_SIZES = {
    "criteo1tb": 262_144,
    "fastmri": 32,
    "imagenet_resnet": 1024,
    "imagenet_resnet_silu": 512,
    "imagenet_resnet_gelu": 512,
    "imagenet_vit": 1024,
    "librispeech_conformer": 256,
    "librispeech_deepspeech": 256,
    "ogbg": 512,
    "wmt": 128,
    "mnist": 16,
    "mnist_vit": 64,
    "flights_dlrm": 1024,
    "stdlib_lm": 16,
}


def get_batch_size(workload_name: str) -> int:
    """Global batch size of a workload.

    The official runner asks again with the base name when a variant's raises ValueError.

    >>> get_batch_size("wmt")
    128

    Raises:
      ValueError: for an unknown workload.
    """
    if workload_name not in _BATCH_SIZES:
        raise ValueError(
            f"no batch size for workload {workload_name!r}; known: {', '.join(_BATCH_SIZES)}"
        )
    return _BATCH_SIZES[workload_name]
