"""The dialects, one per file: each states its grammar, its operations and its verifier."""
