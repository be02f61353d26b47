"""Files that may be anybody's, read as plain values and held to their shapes."""
