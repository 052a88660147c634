"""One module a data set format, named as the format: ``visa.py`` registers ``visa``
(:mod:`thfr.data.registry`).
"""
