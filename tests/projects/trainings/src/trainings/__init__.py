"""A project whose runs read what others write."""
