"""How `fs` takes its words and shows what it does."""
