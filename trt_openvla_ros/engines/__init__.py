"""Backends: a folder for each. Only it imports its backend, and only when it is asked for."""
