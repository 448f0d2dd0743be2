"""From labels to a judged model: split, dataset, head, fine-tuning, calibration, gate, card,
schedule."""
