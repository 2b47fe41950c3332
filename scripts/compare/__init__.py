"""Optimizers and options compared on the stand-ins."""
