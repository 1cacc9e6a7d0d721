"""Conformance batteries that users run on their own codecs, engines and sources; one module per room."""
