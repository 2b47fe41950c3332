"""The fake workload's facts, known without loading torch."""

from workloads.facts import WorkloadFacts

FACTS = WorkloadFacts(
    name="fake",
    suite="standin",
    stands_in_for="nothing",
    dataset="random numbers",
    metric="loss",
    direction="min",
    step_hint=24,
    eval_period_steps=5,
    max_runtime_seconds=60,
    validation_target=0.35,
    test_target=0.35,
)
