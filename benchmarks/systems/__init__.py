"""The systems measured, each behind one small interface.

A module here is imported only in the child process that measures it, so that no system pays
for another's imports, threads or garbage.
"""
