"""How the project's configuration is read: for one run alone, and each file once."""
