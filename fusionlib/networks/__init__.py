"""The networks, one file each: the module, its published facts and its `METHOD`."""
