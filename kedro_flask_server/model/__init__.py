"""The domain model: immutable values and their rules. No I/O."""
