"""The numbers of the entry without hyperparameters, in both frameworks."""

import types

# A point without a dropout rate leaves each workload its default.
POINT = types.SimpleNamespace(
    learning_rate=0.0017486387539278373,
    one_minus_beta1=0.06733926164,
    one_minus_beta2=0.00448403102,
    weight_decay=0.08121616522670176,
    label_smoothing=0.0,
    warmup_factor=0.02,
    step_hint_factor=1.0,
    budget_factor=1.47,
    nesterov=True,
    exponent=0.5,
    refresh_interval=100,
    damping=1e-5,
    averaging_share=0.1,
)
