"""A study's scores beside those that its paper published, and what both halves of it say of its questions."""
