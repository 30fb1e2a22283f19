"""Runs: their admission, execution and results. No Flask in here."""
