"""Access control: callers, their API keys, and the audit log. No Flask in here."""
