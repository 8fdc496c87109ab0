"""A policy over a recording, compared with what was done there."""
