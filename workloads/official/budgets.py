"""Budgets of the official workloads, per version of the benchmark; variants have their base's.

Sources: `max_allowed_runtime_sec`, `step_hint` and `eval_period_time_sec` of the workload classes
of mlcommons/algorithmic-efficiency, at tag v0.5.0 and at 2c90454f (v0.6). Budgets are for 8 V100
GPUs of 16 GB; that of finewebedu_lm, from 4c37f2aa, is for 4 A100.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "v0.5": "budgets: workload classes of mlcommons/algorithmic-efficiency at tag v0.5.0",
        "v0.6": "budgets: workload classes of mlcommons/algorithmic-efficiency at 2c90454f",
    }
)
NOTES: Mapping[str, str] = MappingProxyType(
    {
        "finewebedu_lm": (
            "budget, step hint and evaluation period: the class at 4c37f2aa; the budget is for 4 "
            "A100 GPUs, unlike the other workloads' 8 V100"
        )
    }
)

# Rules of each version: how much longer a run may take that is not tuned from outside.
SELF_TUNING_FACTORS: Mapping[str, float] = MappingProxyType({"v0.5": 3.0, "v0.6": 1.5})


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a trial may use.

    Attributes:
      step_hint: steps that the baseline takes in about the budget.
      max_runtime_seconds: submission time of a trial under the external tuning ruleset.
      eval_period_seconds: submission time between evaluations.
    """

    step_hint: int
    max_runtime_seconds: int
    eval_period_seconds: int


# The target-setting algorithms did not run on these two, which test an installation.
_DEVELOPMENT: Mapping[str, Budget] = {
    "mnist": Budget(7_813, 60, 10),
    "cifar": Budget(4_883, 3_600, 600),
}

BUDGETS: Mapping[str, Mapping[str, Budget]] = MappingProxyType(
    {
        "v0.5": {
            "criteo1tb": Budget(10_666, 7_703, 120),
            "fastmri": Budget(36_189, 8_859, 80),
            "imagenet_resnet": Budget(186_666, 63_008, 510),
            "imagenet_vit": Budget(186_666, 77_520, 420),
            "librispeech_conformer": Budget(80_000, 61_068, 1_440),
            "librispeech_deepspeech": Budget(48_000, 55_506, 1_440),
            "ogbg": Budget(80_000, 18_477, 240),
            "wmt": Budget(133_333, 48_151, 840),
            **_DEVELOPMENT,
        },
        "v0.6": {
            "criteo1tb": Budget(10_666, 7_703, 120),
            "fastmri": Budget(18_094, 4_430, 80),
            "imagenet_resnet": Budget(195_999, 66_159, 510),
            "imagenet_vit": Budget(167_999, 69_768, 420),
            "librispeech_conformer": Budget(76_000, 58_015, 1_440),
            "librispeech_deepspeech": Budget(38_400, 44_405, 1_440),
            "ogbg": Budget(52_000, 12_011, 240),
            "wmt": Budget(120_000, 43_336, 840),
            "finewebedu_lm": Budget(72_000, 31_967, 2_571),
            **_DEVELOPMENT,
        },
    }
)
