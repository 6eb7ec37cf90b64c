"""Flows, losses, distillers and CIFAR backbones, a package each.

``flows`` and ``losses`` need PyTorch alone, so nothing is imported here.
"""
