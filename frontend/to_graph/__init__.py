"""A checked program to the graph dialect."""
