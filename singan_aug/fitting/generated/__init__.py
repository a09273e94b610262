"""How generated scales are trained."""
