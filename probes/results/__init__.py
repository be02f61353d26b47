"""The results folder: its tables, who was tested, and what the table says."""
