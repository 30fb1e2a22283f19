"""Data that requests give to runs and runs return: which, in what form, and how it is converted."""
