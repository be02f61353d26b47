"""What is asked: labels, rows, groups, controls, and the grid of tasks."""
