"""The policy over HTTP and websockets, for clients outside ROS."""
