"""A release made callable: its code imported, its artifacts bound, its requests typed, its answers encoded."""
