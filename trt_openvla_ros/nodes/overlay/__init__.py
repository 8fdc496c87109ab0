"""What a person sees of a step: a picture, annotations for Foxglove, and markers for RViz."""
