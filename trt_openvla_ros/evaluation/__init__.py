"""Measures of a policy: success in simulated scenes, and agreement with quantised copies."""
