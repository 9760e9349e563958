"""What runs a recipe: the command line, the run folder, the movements, delivery and the pages."""
