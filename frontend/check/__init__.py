"""Syntax trees to checked programs: names, ranges, types, schedules."""
