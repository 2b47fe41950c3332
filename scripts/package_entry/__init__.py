"""Packages: folders of an entry and all that it imports, for the organisers of the benchmark."""
