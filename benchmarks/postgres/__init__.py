"""`python -m benchmarks --postgres`: many coordinators, and many sagas, on one PostgreSQL server."""
