"""Stores given away: without what may not be passed on, described, with checksums, and fetched again."""
