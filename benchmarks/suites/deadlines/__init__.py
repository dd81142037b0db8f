"""How far calls to hostile services go beyond their deadline."""
