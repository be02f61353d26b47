"""Model folders of transformers, and the architectures that are embedded exactly."""
