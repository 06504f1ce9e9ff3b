raise ValueError("not\nin the mood")
