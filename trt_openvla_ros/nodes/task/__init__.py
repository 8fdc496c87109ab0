"""The task node: an action server that lets the policy follow one instruction."""
