"""What was done, in words to put into a paper: every value from the records of a run."""
