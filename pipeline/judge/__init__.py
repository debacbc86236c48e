"""L1: fitting the held-out judge and measuring every judge for its card. Scoring is the scorers' business."""
