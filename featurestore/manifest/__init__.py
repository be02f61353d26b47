"""The table of utterances: its columns, its labels, and where its audio is."""
