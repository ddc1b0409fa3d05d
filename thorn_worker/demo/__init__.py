"""``thorn-worker demo``: a whole system, a worker killed half-way, and a ledger by delivery id.

`main` is the way from start to exit code, `play` tells the acts. `cast` says who plays, `receivers` and
`senders` are processes, `stage` starts and ends them. `records` are the files that outlive everybody, `watch`
follows them meanwhile, `ledger` counts them at the end, `show` is what the user sees.
"""
