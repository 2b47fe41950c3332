"""Which evaluations meet their workload's validation target."""

import numpy as np
import pandas as pd

from workloads import registry


def meets_target(frame: pd.DataFrame, version: str | None = None) -> np.ndarray:
    """Whether each evaluation is as good as the validation target, which counts as met.

    Args:
      frame: with `workload` and `validation_metric`; a NaN metric never meets a target.
      version: of the benchmark, as `workloads.registry.facts` takes it.

    Returns:
      bool [rows]; all False on a workload without a target.

    Raises:
      UserError: for an unknown workload or version.
    """
    codes, names = pd.factorize(frame["workload"])
    values = frame["validation_metric"].to_numpy(float)
    met = np.zeros(len(frame), dtype=bool)
    for code, name in enumerate(names):
        facts = registry.facts(str(name), version)
        if facts.validation_target is None:
            continue
        rows = np.flatnonzero(codes == code)
        if facts.direction == "max":
            met[rows] = values[rows] >= facts.validation_target
        else:
            met[rows] = values[rows] <= facts.validation_target
    return met
