"""What people look at: one page a kind of run, and its pictures."""
