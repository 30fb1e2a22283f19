"""The steps, one file each.

From ``0005`` on each declares in ``oldest_program`` which programs may use the store after it:
those that know that revision or a newer one. A step that only adds (a table, an index, a nullable
column) keeps the value of the step before; one that removes or changes what the previous release
uses comes a release later, and raises the value.
"""
