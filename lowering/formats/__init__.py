"""Statements over sets in storage formats, rewritten over position sets: a file per family."""
