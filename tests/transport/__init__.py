"""How steps travel."""
