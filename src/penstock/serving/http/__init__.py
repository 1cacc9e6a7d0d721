"""HTTP: connections within bounds, routes, and the pages that are made once. Knows protocols by their one interface."""
