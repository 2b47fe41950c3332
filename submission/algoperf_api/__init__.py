"""The AlgoPerf API, written once: what every entry's `submission.py` shares."""
