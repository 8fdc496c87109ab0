"""Recordings by `ros2 bag record`, without ROS: read in one place, and written as data sets."""
