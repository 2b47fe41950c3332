"""Benchmarks of the optimizer's step, its roots and its communication."""
