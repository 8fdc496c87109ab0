"""The parts of benchmarks/gpu.py: rows, what they run, what they measure, and the report."""
