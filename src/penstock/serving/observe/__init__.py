"""What a server says about itself: counters shared by its workers, their exposition, the access log, telemetry."""
