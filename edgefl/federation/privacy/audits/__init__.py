"""What a trained model and an update tell of the records behind them, tried out rather than promised.

An audit attacks on purpose, on a machine that has records of the task's kind: nobody's private data leave a device for it.
`python -m edgefl.federation.privacy.audits --help` is the program; `edgefl audit` runs it for a site.
"""
