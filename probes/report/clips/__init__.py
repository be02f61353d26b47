"""Clips of a report: what went wrong, where their audio is, and how they come onto the page."""
