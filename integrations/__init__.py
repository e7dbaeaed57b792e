"""Adapters for frameworks and backends. They import hotlap; hotlap never imports them."""
