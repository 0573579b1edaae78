"""What a program means: plain NumPy, exact arithmetic in a prime field, bounds of errors."""
