"""Releases: manifest, gate, export and import, diff. The only thing that is deployed, promoted or rolled back."""
