"""Kinds: what each kind of benchmark measures and looks at."""
