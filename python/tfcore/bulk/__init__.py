"""A whole corpus to vectors: read row by row, computed part by part, resumable after a kill, on one machine or many.

rows.py      what a row is, and the parts that rows are cut into: the unit of work
readers.py   files of lines, JSON, CSV and Parquet as rows
edges.py     what tells a file from another
recipe.py    a model and its options, and the one function that computes a part
engines/     where parts are computed: here, on Dask, on Ray
store.py     the hidden working folder: a lock, a manifest, a file a part
outputs.py   the finished parts as .npy or Parquet
progress.py  what the person who waits is shown
stopping.py  Ctrl-C and its kin, heard between parts
job.py       all of it, strung together
"""

from __future__ import annotations

from .job import Job, Outcome, Stopped
from .readers import Corpus
from .recipe import Recipe

__all__ = ["Corpus", "Job", "Outcome", "Recipe", "Stopped"]
