"""A run from its configuration to committed units: plan, jobs, pipeline, workers, checks."""
