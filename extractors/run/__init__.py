"""A run from its configuration to committed units: plan, engine, processes, checks."""
