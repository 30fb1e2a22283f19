"""HTTP: requests in, answers out. What takes longer to say belongs below."""
