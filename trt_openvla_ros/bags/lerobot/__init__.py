"""Recordings as a data set of LeRobot, in its format v3.0."""
