"""Language models end to end, on a base model so small that it is built where it is needed."""
