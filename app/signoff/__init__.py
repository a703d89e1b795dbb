"""Human sign-off: the blind sheet that people read, their verdicts, and what is still missing before a reload."""
