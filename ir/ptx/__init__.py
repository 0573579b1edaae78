"""Facts of the PTX instruction set, its text and the cost of a module of it."""
