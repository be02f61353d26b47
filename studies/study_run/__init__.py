"""A study carried out: what is asked of extractors and probes, what remains of it, and batch jobs of it."""
