"""The compiler from top to bottom: the levels in order, and the passes between them.

    text --frontend--> graph --OPTIMISE--> graph-opt --TILE--> tile --backends--> llvm --> asm

A program enters as graph IR (`frontend/build.py`). `OPTIMISE` rewrites statements without leaving
the graph level; `TILE` turns groups of statements into kernels. `backends/llvm_kernel.py` turns
kernels into LLVM IR. Every level can be printed, parsed, checked and run (`hectorite emit`).
"""
