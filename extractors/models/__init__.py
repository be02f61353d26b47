"""Models behind one interface: found by name, described by a card, loaded when needed."""
