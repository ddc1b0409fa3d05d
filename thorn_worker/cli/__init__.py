"""The command line: one module per command, all under one error handler (`thorn_worker.cli.app`)."""
