"""Clips that can be heard and seen: which, where their audio is, and how they come onto the page."""
