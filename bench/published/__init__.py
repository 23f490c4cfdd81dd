"""What others published of savings, on this twin."""
