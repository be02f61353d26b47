"""A run of probes: the plan, its tasks in workers, and what fits into their memory."""
