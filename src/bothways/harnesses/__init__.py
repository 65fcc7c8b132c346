"""Models of ours in other people's evaluation harnesses, each of which is imported with its own module only."""
