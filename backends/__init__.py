"""What makes IR run: reference interpreters, bound data, machine code of CPUs and GPUs, PTX."""
