"""Where runs execute: a module for each way."""
