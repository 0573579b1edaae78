"""A compiled program as Python holds it: its targets, its calls, what is known of them."""
