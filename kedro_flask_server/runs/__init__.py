"""Runs: what is asked for, what became of it, and who executes it. No Flask in here."""
