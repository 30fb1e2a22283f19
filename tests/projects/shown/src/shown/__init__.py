"""A project whose pages are looked at."""
