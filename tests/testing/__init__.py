"""What proves that sagas recover is itself proved here."""
