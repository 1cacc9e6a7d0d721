"""The forms in which callers ask: each reads a request into a question and writes the answers back."""
