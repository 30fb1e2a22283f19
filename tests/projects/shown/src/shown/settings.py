"""Settings of the project: none."""
