"""What any route answers to what it cannot take. `python -m benchmarks.bad_input [PERCENT]`

`case` says what a case is; `numbers`, `texts`, `bodies`, `rows`, `formats`, `types`, `headers`, `framing`, `paths` and
`keys` are the corpus, `roles` the table of route × method × role; `routes` declares the routes, and is held against the
application. `wire` sends bytes as they are, `judge` judges what came back, and `truth` says that nothing has changed.
"""
