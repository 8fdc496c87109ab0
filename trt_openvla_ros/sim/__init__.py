"""A tabletop in MuJoCo, its goals, and an expert that reaches them, without ROS."""
