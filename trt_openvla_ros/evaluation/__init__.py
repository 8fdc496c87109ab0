"""How well a policy does: success in simulated scenes, and agreement with a quantised copy."""
