"""The interpreter of the tile dialect, which watches every access."""
