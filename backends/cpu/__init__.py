"""Tile IR as LLVM IR, machine code of this computer, and calls of it."""
