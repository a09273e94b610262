"""Does it help? Networks trained with and without variants, by a declared protocol."""
