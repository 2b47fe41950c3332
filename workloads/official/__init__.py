"""The official AlgoPerf workloads: what is known of them, and search spaces to tune on them."""
