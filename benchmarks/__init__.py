"""Side-by-side benchmarks of `sagas`, DBOS Transact and a bare `sqlite3` loop.

Run them with `python -m benchmarks`; `benchmarks/README.md` says what is measured and how.
"""
