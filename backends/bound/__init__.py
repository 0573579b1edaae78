"""The sets of a program bound to data."""
