"""A model that is trained and answers requests, in ways that tests ask for."""
