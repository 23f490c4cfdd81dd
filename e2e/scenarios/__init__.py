"""What must hold on a real API server, one file per story."""
