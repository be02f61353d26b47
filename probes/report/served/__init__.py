"""The report over loopback, for results too large for one file: every utterance, filtered where it lies."""
