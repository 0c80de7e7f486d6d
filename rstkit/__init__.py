"""rstkit: why was this TCP connection reset?"""
