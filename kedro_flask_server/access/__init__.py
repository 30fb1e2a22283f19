"""Who may do what: callers, their keys, and the record of what they did. No Flask in here."""
