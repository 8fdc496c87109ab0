"""Stage build_engine: engines for the GPU of this machine."""
