"""What is learnt from logs: time to target, ratios to a baseline, figures. Never runs training."""

from common import requirements

requirements.explain_missing()
