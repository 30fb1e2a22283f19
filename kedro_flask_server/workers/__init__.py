"""Worker processes: what runs in them, and how the server speaks with them. No Flask in here."""
