"""What the host does in a call: the plan, its values, memory for results."""
