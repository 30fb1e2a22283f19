"""A project whose pipelines take and return data."""
