"""From a file to the waveform a model sees: headers, decoding, preparation."""
