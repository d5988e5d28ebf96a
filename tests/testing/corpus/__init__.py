"""The corpus of known bugs: sagas that are wrong in ways that others have reported, and ones that are right.

Each module of ``wrong`` and ``right`` has a few sagas and, in ``CASES``, how each is checked and what comes of it.
"""
