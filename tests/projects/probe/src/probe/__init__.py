"""A project whose pipelines do what a server must withstand."""
