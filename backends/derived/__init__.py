"""Elements of derived sets: planned, and joined by machine code or NumPy."""
