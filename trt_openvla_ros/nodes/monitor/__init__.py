"""The policy and the robot in a terminal."""
