"""Every level of a program: printed, read back, run, and compared with the reference."""
