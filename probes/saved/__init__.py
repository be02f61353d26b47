"""Fitted probes as files, and back, with nothing in them that is run."""
