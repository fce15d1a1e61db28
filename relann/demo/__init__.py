"""The demonstration: models of real flights as queries."""
