"""Texts, end to end over HTTP: banking77 in fp32 and int8, a retraining after 1 % new rows, kills, and bad sources."""
