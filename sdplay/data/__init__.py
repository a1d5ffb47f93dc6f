"""Pictures and captions: whatever a user brings becomes a checked, normalised data set on disk.

files      one file that was found, and what its name says it is
zips, arrow, sources   folder, files, zip, `datasets` folder, Hub id -> found files
captions   tables and text files -> a caption for each picture
pictures   one picture, decoded safely and normalised
masks      which part of a picture is to be learned, and how that is shown
intake     found files -> examples, and a reason for everything left out
dataset    the store: data sets in their folders
report     what to know before training
"""

from sdplay.data.dataset import DatasetStore
from sdplay.data.examples import Dataset, Example, Skipped
from sdplay.data.limits import Limits
from sdplay.data.masks import view_path
from sdplay.data.report import ReportLine, report

__all__ = ["Dataset", "DatasetStore", "Example", "Limits", "ReportLine", "Skipped", "report", "view_path"]
