"""PTX assembled without a GPU, and what its machine code is made of."""
