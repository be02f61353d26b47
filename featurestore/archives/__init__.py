"""Where the bytes of audio lie that is no file of its own: in tar, zip and Parquet files, and in buckets."""
