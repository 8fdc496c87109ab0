"""Faults of the loop policy, robot node and controller: made, observed and judged."""
