"""Statistics of storage formats on bound data."""
