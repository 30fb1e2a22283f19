"""The steps; a file each.

From ``0005`` on each says in ``oldest_program`` which programs may use the store after it: those
that know that revision or a newer one. A step that only adds (a table, an index, a column that may
be empty) keeps the value of the step before; one that takes away or changes what programs of the
release before use comes a release after the last of them, and says so.
"""
