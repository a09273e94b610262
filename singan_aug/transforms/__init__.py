"""What a pipeline sees: one module for each framework, loaded only when it is used."""
