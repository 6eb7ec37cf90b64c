"""Meta-encoders: networks that predict the velocity or the target."""
