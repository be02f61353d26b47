"""Files that hold many audio files: tar, zip and Parquet, and what is in them by name."""
