"""The gate: what must hold before an answer may move a robot."""
