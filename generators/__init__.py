"""Datasets, encodings and models. Needs torch, numpy, pandas, pyarrow and scikit-learn, and nothing else of weight."""
