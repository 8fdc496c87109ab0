"""Stage save_backbone: an OpenVLA checkpoint to its parts."""
