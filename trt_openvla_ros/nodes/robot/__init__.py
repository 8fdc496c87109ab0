"""The ROS side of the bridge from actions to a controller: topics, controllers and grippers."""
