"""The CUDA driver: modules, memory, graphs and calls."""
