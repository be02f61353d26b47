"""The arrays of a key as bytes: layers, frames and rows, encoded, and decoded without trust."""
