"""Elasticsearch for workers: raw answers over plain HTTP, without the driver's memory. Threads, not asyncio."""
