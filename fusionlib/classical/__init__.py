"""The methods without a network, one file each: the algorithm, its facts and its `METHOD`."""
