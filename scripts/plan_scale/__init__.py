"""Memory, messages and time of training on ranks that are not there yet."""
