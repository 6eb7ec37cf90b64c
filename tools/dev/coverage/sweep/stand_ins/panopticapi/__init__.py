"""Functions of panopticapi, which is on no index, that read data."""
