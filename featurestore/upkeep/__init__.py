"""What is done to whole keys once they are written: verify, repair, copy, relabel, prove."""
