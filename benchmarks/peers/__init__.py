"""The runtimes we race, one file for each family; `table.py` lists them."""
