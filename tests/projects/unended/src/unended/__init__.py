"""A project whose node leaves all sorts of things to the end of the program."""
