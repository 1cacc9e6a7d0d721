"""What was answered, kept: segments that workers append to, and how they are read back."""
