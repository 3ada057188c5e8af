"""Where the cells of a grid run: processes of this machine, a Dask cluster, flow runs."""
