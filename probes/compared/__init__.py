"""Two results folders side by side: their scores on the same clips, and what differs between their runs.

`shared_questions` finds what both were asked and compares the answers clip by clip, `run_differences` says
what else differs, `compared_files` writes it down.
"""
