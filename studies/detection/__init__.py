"""A saved probe over long recordings: windows, their probabilities, events, and how right these are."""
