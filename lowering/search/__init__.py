"""The search for the cheapest equal form of a function."""
