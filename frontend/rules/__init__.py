"""Rewrite rules seen from outside: their check, their mutants, and the synthesis of new ones."""
