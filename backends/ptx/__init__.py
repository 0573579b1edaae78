"""PTX without a GPU: printed, checked, interpreted, and compiled for the CPU."""
