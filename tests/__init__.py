"""The tests: `pytest`, from the repository's root."""
