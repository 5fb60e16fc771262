"""Simulated federations: in one process without Ray and a SuperLink, or as Flower does them."""

from fedf2dg import prefer_ours

prefer_ours()
