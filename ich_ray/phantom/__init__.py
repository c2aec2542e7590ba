"""Synthetic head CT with known bleeds: the demo and the tests run on it."""

from ich_ray.phantom.exam import PhantomExam, make_exam
from ich_ray.phantom.sites import SITES, Site

__all__ = ["SITES", "PhantomExam", "Site", "make_exam"]
