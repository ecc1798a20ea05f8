"""Everything is in setup.cfg; this file only lets pip's editable installs work on older setuptools."""

from setuptools import setup

setup()
