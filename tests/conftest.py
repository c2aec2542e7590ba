import importlib

# What is first imported from within a module that jaxtyping instruments is compiled anew by each
# process, and not taken from its cache: these take ten seconds then.
for name in ("matplotlib.pyplot", "pandas", "ray.data", "ray.train.torch", "scipy.stats", "torch"):
    importlib.import_module(name)
