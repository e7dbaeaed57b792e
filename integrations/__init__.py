"""Adapters for frameworks and backends: `hotlap.integrations`. They import hotlap; hotlap never imports them."""
