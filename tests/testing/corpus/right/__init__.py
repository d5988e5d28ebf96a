"""Right sagas, which have to pass."""
