"""The AlgoPerf API's names: `algoperf.spec` where it is installed, else the same names.

Submissions and stand-in workloads import this module and so run unchanged under the official
runner and under ours. The fall-back declares the part of the v0.6 interface (commit 2c90454f of
mlcommons/algorithmic-efficiency) that this project uses, with the same names and values.
"""

try:
    from algoperf.spec import (
        ForwardPassMode,
        LossType,
        ParameterType,
        ShapeTuple,
        TrainingCompleteError,
        Workload,
    )
except ImportError:
    from .spec_fallback import (
        ForwardPassMode,
        LossType,
        ParameterType,
        ShapeTuple,
        TrainingCompleteError,
        Workload,
    )

__all__ = [
    "ForwardPassMode",
    "LossType",
    "ParameterType",
    "ShapeTuple",
    "TrainingCompleteError",
    "Workload",
]
