"""The Zarr store: keys, units, their ledger, and how rows are written and read."""
