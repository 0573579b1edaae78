"""What makes the IR run: reference interpreters, bound data, the LLVM CPU backend."""
