"""Releases: manifest, gate, creation, export and import, diff. The only thing that is deployed, promoted or rolled back."""
