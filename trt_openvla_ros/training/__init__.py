"""From nothing to small checkpoints that do the tabletop task; knows nothing of ROS."""
