"""One file per corpus or annotation format, each of which makes a manifest."""
