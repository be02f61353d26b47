"""What a clip is besides what it is labelled as: its length, level, noise, pitch, recorder and hour."""
