"""Settings of the project: the plugins bring their hooks themselves."""
