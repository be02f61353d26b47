"""Clips that are one sound: by their samples, by their spectra, by their embeddings."""
