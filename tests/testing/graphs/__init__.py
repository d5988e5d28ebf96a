"""The graphs of sagas."""
