"""From statements to kernels: which there are, what each computes in which order."""
