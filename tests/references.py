"""Reference implementations of the distillation losses, in float64.

They follow the papers' formulas, with loops and logarithms of probabilities,
and use no code of mmfmkt. ``p`` are outputs of the student and ``q`` of the
teacher: logits ``(B, classes)`` or feature maps ``(B, C, H, W)``.
"""

import torch


def kd(p, q, temperature=4.0):
    p, q = (torch.exp(x / temperature) for x in (p, q))
    p, q = (x / x.sum(1, keepdim=True) for x in (p, q))
    return temperature**2 * (q * (q / p).log()).sum() / len(p)


def standard_scores(x):
    """Algorithm 1 of arXiv 2403.01427, without the temperature."""
    rows = []
    for row in x:
        mean = row.sum() / len(row)
        rows.append((row - mean) / ((row - mean) ** 2).mean().sqrt())
    return torch.stack(rows)


def dkd(p, q, labels, alpha=1.0, beta=8.0, temperature=4.0):
    total = 0
    for student, teacher, label in zip(p, q, labels.tolist()):
        student, teacher = (
            (x / temperature).softmax(0) for x in (student, teacher)
        )
        b, b_teacher = student[label], teacher[label]
        tckd = (
            b_teacher * (b_teacher / b).log()
            + (1 - b_teacher) * ((1 - b_teacher) / (1 - b)).log()
        )
        others = [k for k in range(len(student)) if k != label]
        hat, hat_teacher = (
            x[others] / x[others].sum() for x in (student, teacher)
        )
        nckd = (hat_teacher * (hat_teacher / hat).log()).sum()
        total = total + alpha * tckd + beta * nckd
    return temperature**2 * total / len(p)


def pearson(x, y):
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / (x.square().sum() * y.square().sum()).sqrt()


def dist(p, q, beta=2.0, gamma=2.0, temperature=4.0):
    p, q = ((x / temperature).softmax(1) for x in (p, q))
    inter = sum(1 - pearson(a, b) for a, b in zip(p, q)) / p.shape[0]
    intra = sum(1 - pearson(a, b) for a, b in zip(p.T, q.T)) / p.shape[1]
    return temperature**2 * (beta * inter + gamma * intra)


def pkd(p, q):
    p, q = (x.transpose(0, 1).flatten(1) for x in (p, q))
    return sum(1 - pearson(a, b) for a, b in zip(p, q)) / len(p)


def cwd(p, q, temperature=1.0):
    samples, channels = p.shape[:2]
    total = 0
    for n in range(samples):
        for c in range(channels):
            a, b = (
                torch.exp(x[n, c] / temperature)
                / torch.exp(x[n, c] / temperature).sum()
                for x in (p, q)
            )
            total = total + (b * (b / a).log()).sum()
    return temperature**2 * total / (samples * channels)


def cosine(p, q):
    """1 - cosine similarity of channels, at each position."""
    p, q = (x.reshape(*x.shape[:2], -1) for x in (p, q))
    cosines = [
        (a @ b) / (a @ a).sqrt() / (b @ b).sqrt()
        for x, y in zip(p, q)
        for a, b in zip(x.T, y.T)
    ]
    return 1 - sum(cosines) / len(cosines)


def mse(p, q):
    return ((p - q) * (p - q)).sum() / p.numel()
