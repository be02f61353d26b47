"""Processes of ours beside this one: for a call, or for as long as they are asked; they may be lost."""
