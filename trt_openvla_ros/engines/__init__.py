"""Engines: one folder for each backend. A backend is imported only when an engine needs it."""
