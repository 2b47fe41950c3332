"""The benchmark's own test of a submission, on every workload with every entry, as a table."""
