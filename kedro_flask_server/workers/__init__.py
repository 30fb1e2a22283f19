"""Worker processes, and their communication with the server. No Flask in here."""
