"""Generated scales: small networks, trained."""
