"""Pages for people, at ``/ui``: views that call the same services as the API, and render HTML."""
