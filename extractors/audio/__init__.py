"""From a file to the waveform a model sees: durations, channels, decoding ahead, preparation."""
