"""Wrong sagas, each with the report that it comes from."""
