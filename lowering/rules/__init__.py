"""Rewrite rules as data: one definition gives matcher, builder, check, PDL text and document."""
