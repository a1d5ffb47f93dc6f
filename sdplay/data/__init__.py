"""Pictures and captions: whatever a user brings becomes a checked, normalised data set on disk.

files      one file that was found, and what its name says it is
zips, arrow, sources   folder, files, zip, `datasets` folder, Hub id -> found files
captions   tables and text files -> a caption for each picture
views      what an exported data set says about crops
download   a zip from an address
pictures   one picture, decoded safely and normalised
masks      which part of a picture is to be learned, and how that is shown
intake     found files -> examples, and a reason for everything left out
dataset    the store: data sets in their folders; records: their files; edits: changes, and the way back
report     what to know before training, from names and sizes; health: from the pixels too; measures, faces: what is measured
fixes      what one press does about it; caption_tools: changing many captions at once
shapes     which part of a picture training sees
export     a data set as a zip, a folder for `datasets`, on the Hub
"""

from sdplay.data.dataset import DatasetStore
from sdplay.data.examples import Dataset, Example, Skipped
from sdplay.data.limits import Limits
from sdplay.data.masks import view_path
from sdplay.data.report import ReportLine, report

__all__ = ["Dataset", "DatasetStore", "Example", "Limits", "ReportLine", "Skipped", "report", "view_path"]
