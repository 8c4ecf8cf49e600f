"""What every kernel must compute: signature and specification, a family a file, as in each backend."""
