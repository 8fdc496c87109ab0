"""Run OpenVLA-family robot policies in ROS 2."""
