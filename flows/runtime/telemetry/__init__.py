"""What a flow says about itself: numbers for Prometheus, a health line, log lines. One typed list
names every number.
"""
