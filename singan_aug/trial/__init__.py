"""Trials: networks trained with and without variants by a declared protocol, on few images, and compared."""
