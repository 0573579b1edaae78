"""Passes from graph to graph: what a program computes, and where."""
