"""From waveforms to functionals: windows, batches, one forward pass, frames reduced."""
