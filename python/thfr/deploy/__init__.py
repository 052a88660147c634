"""From a trained run to a product on the line: findings, HTTP service, watched folders, teaching."""
