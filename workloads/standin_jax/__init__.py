"""Stand-ins in JAX: the data, weights and metrics of their twins in PyTorch, and their models."""
