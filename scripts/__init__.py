"""The commands, and what they share."""

from common import requirements

requirements.explain_missing()
