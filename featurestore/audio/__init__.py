"""Audio files read strictly: containers, streams, blocks, and the segment of an utterance."""
