"""Your own pairs: the estimator, and what it takes to use it on data of any kind and size."""
