"""The project's configuration: isolated for each run, with every file parsed once."""
