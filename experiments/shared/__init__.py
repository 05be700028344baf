"""What all experiments need: claims, pictures, the images to learn from, and how an experiment is run."""
