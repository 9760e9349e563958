"""Ways to narrow a space while a supernet of it is trained."""
