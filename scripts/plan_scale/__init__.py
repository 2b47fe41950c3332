"""Memory, messages and time of training on any number of ranks, planned on one machine."""
