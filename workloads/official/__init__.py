"""The official AlgoPerf workloads: facts as data, and search spaces for tuning."""
