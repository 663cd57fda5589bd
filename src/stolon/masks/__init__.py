"""Supermasks and impressions: tasks as masks over one random, frozen network, or as sums of such masks.

Wortsman et al., "Supermasks in Superposition" (NeurIPS 2020), and "ImpressLearn: Continual Learning via Combined Task
Impressions".
"""
