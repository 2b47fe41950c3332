"""Entries on the official workloads: their data, their trials under the benchmark's own runner."""
