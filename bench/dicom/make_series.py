"""A CT series of slices of 512x512, 200 unless said, made of a real one of 20 repeated along its axis: names shuffled, UIDs new.

Usage: python make_series.py SOURCE_FOLDER OUT_FOLDER OUT_ZIP [SLICES]     (needs pydicom)
"""
import os
import random
import sys
import zipfile

import pydicom
from pydicom.uid import generate_uid

source, out, archive = sys.argv[1:4]
SLICES = int(sys.argv[4]) if len(sys.argv) > 4 else 200
slices = sorted((pydicom.dcmread(os.path.join(source, name)) for name in os.listdir(source)),
                key=lambda ds: float(ds.ImagePositionPatient[2]))
start = float(slices[0].ImagePositionPatient[2])
gap = float(slices[1].ImagePositionPatient[2]) - start
series = generate_uid()
names = random.Random(0).sample(range(SLICES), SLICES)
os.makedirs(out, exist_ok=True)
for k in range(SLICES):
    ds = slices[k % len(slices)]
    ds.SeriesInstanceUID, ds.InstanceNumber = series, k + 1
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], start + k * gap]
    ds.SliceLocation = start + k * gap
    ds.save_as(os.path.join(out, f"{names[k]:03d}.dcm"))
with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
    for name in sorted(os.listdir(out)):
        packed.write(os.path.join(out, name), f"DICOM/{name}")
print(slices[0].StudyInstanceUID, series)
