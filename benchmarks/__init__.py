"""Measurements of this package, by the contract of benchmarks/README.md."""
