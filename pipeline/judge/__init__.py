"""L1: fitting the held-out judge and writing its card. Scoring with it is the scorers' business."""
