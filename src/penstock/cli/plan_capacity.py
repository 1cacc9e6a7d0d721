"""`penstock plan-capacity`."""
