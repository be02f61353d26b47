"""Objects under a root: on a folder, in memory, or in a bucket."""
