"""Tile operations as PTX, one file for each kind of operation."""
