"""Both protocols, searched by Spin as this code does them; the real coordinator, killed between every two statements.

    python -m benchmarks.verify [SIZE]      2: two workers and two replicas, under a minute; 3: three of each

`job.pml` and `swap.pml` are the models; a variant of a model, switched on by `-DM_…`, leaves out one thing that
the code sees to, and must be caught. `models.py` says what is searched in which size, `spin.py` runs it.
"""
