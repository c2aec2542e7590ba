from hypothesis import settings

# A deadline would time the tests, and fail them where something else uses the machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
