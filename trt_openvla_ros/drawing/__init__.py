"""What is shown of a step: marks in a picture, a panel of text beside it, and their painting."""
