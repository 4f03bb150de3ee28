"""How often alerts are wrong and how soon they come: rules as Grafana evaluates them, made shops.

`evaluate.py` is Grafana's evaluation, `shops.py` what a shop does in a minute, `rows.py` how a
pipeline would have stored it, `simulate.py` a month of looking and each planted fault.
"""
