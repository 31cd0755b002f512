"""One file for each schema, in the order of their numbers. What is released is never changed."""
