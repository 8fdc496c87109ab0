"""Stage verify: comparison of every engine of an artifact with the original checkpoint."""
