"""Planned kernels as tile IR, one file for each kind of loop nest."""
