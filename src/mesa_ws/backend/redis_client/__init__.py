"""A Redis client that knows nothing of Mesa: ordered pipelines, subscriptions, Sentinel, durability."""
