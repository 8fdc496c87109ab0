"""Stage verify: every engine of an artifact against the original checkpoint."""
