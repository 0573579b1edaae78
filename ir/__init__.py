"""What every dialect shares: element types, index expressions, tensor types, scalar operations,
schemas and diagnostics. Imports nothing else of hectorite."""
