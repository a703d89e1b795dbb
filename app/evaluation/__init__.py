"""How a language model is judged: held-out prompts, the answers of candidate and incumbent, what they score, and where
that is kept. The gate asks here what `gate/` asks of classifiers; people read the same answers on the sheet.
"""
