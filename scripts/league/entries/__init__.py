"""Entries that take part in the league and are none of the project's own submissions."""
