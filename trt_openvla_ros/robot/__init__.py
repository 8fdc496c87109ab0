"""The arm's side of an action, without ROS: what its numbers mean, poses, and the bridge."""
