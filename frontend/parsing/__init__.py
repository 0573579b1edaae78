"""Text to syntax tree: grammar, parser, recovery from errors, imports."""
