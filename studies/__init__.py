"""What stands above both stages: the demo, declared studies, and how results look in a terminal."""
