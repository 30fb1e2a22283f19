"""A project with the plugins that people use."""
