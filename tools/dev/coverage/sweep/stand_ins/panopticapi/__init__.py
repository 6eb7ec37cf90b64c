"""What MMDetection needs of panopticapi to read data, which no index has."""
