"""Published models as queries: how accurate they become."""
