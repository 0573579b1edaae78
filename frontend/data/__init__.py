"""Where data for a program comes from: files, syntax trees, seeds."""
