"""From a trained run to a product on the line: export, findings, HTTP service, watched folders."""
