"""Passes of the tile level for a GPU: layouts, pipelines, barriers."""
