"""Controllers as robots have them, in front of the simulated arm, by the rules of the real ones.

A policy's actions cannot reach the arm through them; something must make commands of actions.
"""
