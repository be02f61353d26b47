"""A study as one YAML file: its keys, how it is read, and every mistake in it with its line."""
