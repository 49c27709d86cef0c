"""Makes the DICOM series of the tests and what they should become.

Usage: python make_dicom_golden.py OUT

Then copy OUT/dicom-*.zip.gz to test/fixtures. Every case is a folder OUT/<case> of files with shuffled names, and a line in OUT/cases.json. The volume is 12 columns x
20 rows x 7 slices; values and places are known here, so what is expected follows from the standard alone:
value = stored * slope + intercept, world (LPS) = position + column * spacing * row-cosines + row * spacing * column-cosines.
Needs pydicom, pylibjpeg with its openjpeg and libjpeg plugins, pyjpegls, and DCMTK's dcmcjpeg.
"""
import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

OUT = sys.argv[1]
COLUMNS, ROWS, SLICES = 12, 20, 7
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
RLE, BASELINE, EXTENDED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, LOSSLESS1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEGLS, JPEGLS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
J2K, J2K_LOSSY = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
AXIAL = ([1, 0, 0], [0, 1, 0])
cases = []


def uid(*parts):
    return "2.25.41." + ".".join(str(p) for p in parts)


WIDE = (4, 32, 32)  # OpenJPEG's encoder wants more pixels than 12 x 20


def make_values(bits=16, signed=True, shape=(SLICES, ROWS, COLUMNS), seed=1):
    rng = np.random.RandomState(seed)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    ramp = np.linspace(low, high, int(np.prod(shape))).reshape(shape)
    noise = rng.randint(0, max(2, 2 ** (bits - 3)), ramp.shape)
    return np.clip(ramp + noise, low, high).astype(np.int64)


def make_series(
    name, values, directions=AXIAL, spacing=(1.5, 0.75), gap=2.5, origin=(-10.5, 20.25, -30.125), bits=16, stored=None,
    signed=True, syntax=EXPLICIT, slopes=None, intercepts=None, photometric="MONOCHROME2", step=None, modality="CT",
    series=None, extra=None,
):
    """values: [slice, row, column] of stored numbers. Returns the data sets, in the order of the slices."""
    row, column = (np.array(v, float) for v in directions)
    normal = np.cross(row, column)
    step = normal * gap if step is None else np.array(step, float)
    stored = stored or bits
    out = []
    for k in range(values.shape[0]):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = UID(syntax if syntax in (EXPLICIT, IMPLICIT, BIG, DEFLATED) else EXPLICIT)
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(uid(series or zlib.crc32(name.encode()), k + 1))
        ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(1), uid(2, series or zlib.crc32(name.encode()))
        ds.PatientName, ds.PatientID, ds.Modality = "Golden^Case", "GOLD-1", modality
        ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 1, values.shape[0] - k, 1
        ds.StudyDate, ds.StudyTime, ds.SeriesDescription = "20200101", "120000", "golden"
        ds.Manufacturer = "Maker"
        ds.Rows, ds.Columns = values.shape[1:3]
        ds.ImageOrientationPatient = [f"{v:.10g}" for v in (*row, *column)]
        place = np.array(origin) + step * k
        ds.ImagePositionPatient = [f"{v:.10g}" for v in place]
        ds.PixelSpacing = [str(v) for v in spacing]
        ds.SliceThickness = str(gap)
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, stored, stored - 1
        ds.PixelRepresentation = int(signed)
        ds.RescaleSlope = str(slopes[k] if slopes is not None else 1)
        ds.RescaleIntercept = str(intercepts[k] if intercepts is not None else 0)
        kind = f"{'<' if syntax != BIG else '>'}{'i' if signed else 'u'}{bits // 8}"
        ds.PixelData = values[k].astype(kind).tobytes()
        ds["PixelData"].VR = "OB" if bits == 8 and syntax != IMPLICIT else "OW"
        for key, value in (extra or {}).items():
            setattr(ds, key, value)
        out.append(ds)
    return out


def save(name, sets, syntax=EXPLICIT, expect=None, error=None, shuffle=True, note=None):
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    order = np.random.RandomState(len(name)).permutation(len(sets)) if shuffle else range(len(sets))
    for k, ds in enumerate(sets):
        path = os.path.join(folder, f"{order[k]:03d}")
        raw = syntax in (EXPLICIT, IMPLICIT, BIG, DEFLATED)
        ds.save_as(path, enforce_file_format=True)
        if syntax in (RLE, J2K, JPEGLS, JPEGLS_NEAR, J2K_LOSSY):
            options = {JPEGLS_NEAR: {"jls_error": 2}, J2K_LOSSY: {"j2k_cr": [4]}}.get(syntax, {})
            ds.compress(UID(syntax), generate_instance_uid=False, **options)
            ds.save_as(path, enforce_file_format=True)
        elif not raw:
            flag = {BASELINE: "+eb", EXTENDED: "+ee", LOSSLESS: "+el", LOSSLESS1: "+e1"}[syntax]
            subprocess.run(["dcmcjpeg", flag, "+un", path, path], check=True)
    case = {"name": name, "files": len(sets)} | ({"note": note} if note else {})
    if error:
        case["error"] = error
    else:
        data, affine = expect
        kind = "float64" if data.dtype.kind == "f" else "int32"
        case |= {"size": list(data.shape), "affine": affine.tolist(), "dtype": kind}
        data.astype(kind).ravel(order="F").tofile(os.path.join(OUT, f"{name}.bin"))
    cases.append(case)


def grid(sets, real):
    """real: [slice, row, column] in the order of `sets`, which must rise along the normal. Rows upwards, RAS."""
    first, last = sets[0], sets[-1]
    row, column = np.array(first.ImageOrientationPatient, float)[:3], np.array(first.ImageOrientationPatient, float)[3:]
    between_rows, between_columns = (float(v) for v in first.PixelSpacing)
    start, end = (np.array(s.ImagePositionPatient, float) for s in (first, last))
    affine = np.eye(4)
    affine[:3, 0] = row * between_columns
    affine[:3, 1] = -column * between_rows
    affine[:3, 2] = (end - start) / max(1, len(sets) - 1) if len(sets) > 1 else np.cross(row, column) * float(first.SliceThickness)
    affine[:3, 3] = start + column * between_rows * (real.shape[1] - 1)
    affine[:2] *= -1
    return real[:, ::-1, :].transpose(2, 1, 0), affine


def turn(degrees, axis):
    a = np.radians(degrees)
    c, s = np.cos(a), np.sin(a)
    return {"x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])}[axis]


# Transfer syntaxes, lossless: the same values whatever the encoding.
signed16 = make_values(16, True)
for label, syntax in [("explicit", EXPLICIT), ("implicit", IMPLICIT), ("big-endian", BIG), ("deflated", DEFLATED),
                      ("rle", RLE), ("jpeg-lossless", LOSSLESS), ("jpeg-lossless-1", LOSSLESS1), ("jpeg-ls", JPEGLS),
                      ("jpeg-2000", J2K)]:
    values = make_values(16, True, WIDE) if syntax == J2K else signed16
    sets = make_series(label, values, syntax=syntax)
    save(label, sets, syntax, grid(sets, values))
u12 = make_values(12, False)
for label, syntax in [("rle-12", RLE), ("jpeg-lossless-12", LOSSLESS1), ("jpeg-ls-12", JPEGLS), ("jpeg-2000-12", J2K)]:
    values = make_values(12, False, WIDE) if syntax == J2K else u12
    sets = make_series(label, values, stored=12, signed=False, syntax=syntax, intercepts=[-1024] * SLICES)
    save(label, sets, syntax, grid(sets, values - 1024))

# Lossy syntaxes: what another decoder makes of the same bytes.
for label, syntax, bits, stored in [("jpeg-baseline", BASELINE, 8, 8), ("jpeg-extended", EXTENDED, 16, 12),
                                    ("jpeg-ls-near", JPEGLS_NEAR, 16, 12), ("jpeg-2000-lossy", J2K_LOSSY, 16, 12)]:
    shape = WIDE if syntax == J2K_LOSSY else (SLICES, ROWS, COLUMNS)
    smooth = np.linspace(0, 2**stored - 1, int(np.prod(shape))).reshape(shape).astype(np.int64)
    sets = make_series(label, smooth, bits=bits, stored=stored, signed=False, syntax=syntax)
    save(label, sets, syntax, grid(sets, smooth))
    decoded = {}
    for name in os.listdir(os.path.join(OUT, label)):
        ds = pydicom.dcmread(os.path.join(OUT, label, name))
        decoded[float(ds.ImagePositionPatient[2])] = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    cases.pop()
    real = np.stack([decoded[z] for z in sorted(decoded)])
    data, affine = grid(sets, real)
    data.astype("float64").ravel(order="F").tofile(os.path.join(OUT, f"{label}.bin"))
    cases.append({"name": label, "files": shape[0], "size": list(data.shape), "affine": affine.tolist(), "dtype": "float64",
                  "within": 2 if "jpeg-" in label and "ls" not in label else 0})

# Numbers.
for bits, signed in [(8, False), (8, True), (16, False), (32, True), (32, False)]:
    label = f"{'int' if signed else 'uint'}{bits}"
    values = make_values(bits, signed)
    sets = make_series(label, values, bits=bits, signed=signed)
    data, affine = grid(sets, values)
    save(label, sets, EXPLICIT, (data if bits < 32 else data.astype(float), affine))
sets = make_series("signed-12", make_values(12, True) , stored=12)
junk = make_values(12, True)
for k, ds in enumerate(sets):  # overlay bits above the stored ones must not reach the values
    raw = (junk[k] & 0x0FFF) | ((np.arange(junk[k].size).reshape(junk[k].shape) & 0xF) << 12)
    ds.PixelData = raw.astype("<u2").tobytes()
save("signed-12-of-16-with-overlay-bits", sets, EXPLICIT, grid(sets, junk))
slopes, intercepts = 0.5 + 0.25 * np.arange(SLICES), -3.5 * np.arange(SLICES)
small = make_values(12, False)
sets = make_series("pet", small, signed=False, slopes=slopes, intercepts=intercepts, modality="PT")
save("pet-per-slice-slope", sets, EXPLICIT, grid(sets, small * slopes[:, None, None] + intercepts[:, None, None]))
sets = make_series("fraction", small, signed=False, slopes=[0.1] * SLICES)
save("fractional-slope", sets, EXPLICIT, grid(sets, small * 0.1))
sets = make_series("integral", small, signed=False, slopes=[2] * SLICES, intercepts=[-1000] * SLICES)
save("integral-slope", sets, EXPLICIT, grid(sets, small * 2 - 1000))
sets = make_series("mono1", u12, stored=12, signed=False, photometric="MONOCHROME1")
save("monochrome1", sets, EXPLICIT, grid(sets, 4095 - u12))
sets = make_series("mono1s", signed16, photometric="MONOCHROME1")
save("monochrome1-signed", sets, EXPLICIT, grid(sets, -1 - signed16))

# Geometry.
plain = make_values(12, True)
oblique = turn(20, "x") @ turn(35, "z")
for label, directions in [("sagittal", ([0, 1, 0], [0, 0, -1])), ("coronal", ([1, 0, 0], [0, 0, -1])),
                          ("oblique", (oblique[:, 0], oblique[:, 1])), ("flipped-rows", ([1, 0, 0], [0, -1, 0])),
                          ("flipped-both", ([-1, 0, 0], [0, -1, 0]))]:
    sets = make_series(label, plain, directions=directions)
    save(label, sets, EXPLICIT, grid(sets, plain))
sets = make_series("backwards", plain)[::-1]
save("instance-numbers-backwards", sets, EXPLICIT, grid(sets[::-1], plain))
sets = make_series("tilted", plain, step=(0, 0.6, 2.4))
save("tilted", sets, EXPLICIT, grid(sets, plain))
sets = make_series("rounded", plain, gap=1.0 / 3)
save("rounded-positions", sets, EXPLICIT, grid(sets, plain))
sets = make_series("single", plain[:1])
save("single-slice", sets, EXPLICIT, grid(sets, plain[:1]))

radiograph = make_series("radiograph", u12[:1], stored=12, signed=False, photometric="MONOCHROME1", modality="DX")[0]
for tag in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"):
    del radiograph[tag]
save("radiograph", [radiograph], EXPLICIT, (4095 - u12[0].T[:, :, None], np.diag([0.75, 1.5, 1, 1])))

# Stacks with gaps, and files that are not of the stack: read, with a note. A refusal is a code and words of the message.
sets = make_series("missing", plain)
save("missing-slice", sets[:3] + sets[4:], error=["BAD_GEOMETRY", "lacks 1 slice"])
save("missing-three", sets[:2] + sets[5:], error=["BAD_GEOMETRY", "lacks 3 slice"])
twin = make_series("twin", plain[:1], series=77)[0]
twin.SeriesInstanceUID = sets[0].SeriesInstanceUID
save("duplicate-slice", sets + [twin], error=["BAD_GEOMETRY", "lie where another"])
save("same-file-twice", sets + [sets[3].copy()], error=["BAD_GEOMETRY", "more than once"])
save("two-series", sets + make_series("other", plain, series=78), error=["BAD_GEOMETRY", "2 different series"])
turned = make_series("turned", plain[:1], directions=([0, 1, 0], [0, 0, -1]), series=79)[0]
turned.SeriesInstanceUID = sets[0].SeriesInstanceUID
save("localizer-inside", sets + [turned], EXPLICIT, grid(sets, plain), note="has another orientation than most")
wide = make_series("wide", make_values()[:1, :, :10], series=80)[0]
wide.SeriesInstanceUID = sets[0].SeriesInstanceUID
save("another-size", sets + [wide], EXPLICIT, grid(sets, plain), note="is 10x20, most are 12x20")
both = make_series("both", plain[:3], directions=([0, 1, 0], [0, 0, -1]), series=81)
for ds in both:
    ds.SeriesInstanceUID = sets[0].SeriesInstanceUID
save("two-orientations", sets[:3] + both, error=["BAD_GEOMETRY", "not one stack"])
uneven = make_series("uneven", plain)
uneven[5].ImagePositionPatient = [*uneven[5].ImagePositionPatient[:2], str(float(uneven[5].ImagePositionPatient[2]) + 0.4)]
save("uneven-gaps", uneven, EXPLICIT, grid(uneven, plain), note="not evenly spaced")
aside = make_series("aside", plain)
aside[5].ImagePositionPatient = [str(float(aside[5].ImagePositionPatient[0]) + 3), *aside[5].ImagePositionPatient[1:]]
save("slice-shifted-aside", aside, error=["BAD_GEOMETRY", "straight row"])
nowhere = make_series("nowhere", plain)
for ds in nowhere:
    del ds.ImagePositionPatient
placeless = np.diag([-0.75, 1.5, 2.5, 1])  # centred, in the order of InstanceNumber, which runs backwards here
placeless[:3, 3] = [0.75 * (COLUMNS - 1) / 2, -1.5 * (ROWS - 1) / 2, -2.5 * (SLICES - 1) / 2]
save("no-positions", nowhere, EXPLICIT, (grid(sets, plain[::-1])[0], placeless), note="do not say where")
short = make_series("short", plain)
for ds in short:
    ds.PixelData = ds.PixelData[:100]
save("pixels-cut-short", short, error=["UNREADABLE_IMAGE", "cut short"])
huge = make_series("huge", plain)[:1]
huge[0].Rows, huge[0].Columns = 20000, 20000
save("rows-that-lie", huge, error=["UNREADABLE_IMAGE", "cut short"])
video = make_series("video", plain)[:1]
video[0].compress(UID(RLE), generate_instance_uid=False)
video[0].file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")
save("unknown-syntax", video, error=["UNSUPPORTED_FORMAT", "1.2.840.10008.1.2.4.100"])
report = make_series("report", plain)[:1]
del report[0].PixelData
save("no-pixels", report, error=["UNREADABLE_IMAGE", "no pixel data"])
save("with-a-report", make_series("whole", plain) + report, EXPLICIT, grid(make_series("whole", plain), plain))


# Enhanced multi-frame: places per frame, slope shared or per frame, frames stored in any order.
def enhanced(name, values, slopes=None, syntax=EXPLICIT, order=None):
    sets = make_series(name, values)
    ds = make_series(name, values[:1])[0]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2.1")
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        del ds[tag]
    order = list(range(len(sets))) if order is None else order
    ds.NumberOfFrames = len(sets)
    ds.PixelData = values[order].astype("<i2").tobytes()
    shared, per_frame = Dataset(), []
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = sets[0].ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = sets[0].PixelSpacing, sets[0].SliceThickness
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    for place, k in enumerate(order):
        frame, position, transform = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = sets[k].ImagePositionPatient
        transform.RescaleSlope = str(slopes[k] if slopes is not None else 1)
        transform.RescaleIntercept, transform.RescaleType = "0", "US"
        frame.PlanePositionSequence = Sequence([position])
        frame.PixelValueTransformationSequence = Sequence([transform])
        per_frame.append(frame)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    return ds, sets


mixed = list(np.random.RandomState(5).permutation(SLICES))
ds, sets = enhanced("enhanced", plain, order=mixed)
save("enhanced-multi-frame", [ds], EXPLICIT, grid(sets, plain))
ds, sets = enhanced("enhanced-slopes", plain, slopes=slopes, order=mixed)
save("enhanced-per-frame-slope", [ds], EXPLICIT, grid(sets, plain * slopes[:, None, None]))
ds, sets = enhanced("enhanced-rle", plain, order=mixed)
save("enhanced-rle", [ds], RLE, grid(sets, plain))
wide = make_values(12, True, WIDE)
ds, sets = enhanced("enhanced-j2k", wide, order=[2, 0, 3, 1])
save("enhanced-jpeg-2000", [ds], J2K, grid(sets, wide))
ds, sets = enhanced("enhanced-lacking", plain)
ds.NumberOfFrames = SLICES - 1
save("enhanced-frames-that-lie", [ds], error=["UNREADABLE_IMAGE", "describes 7 frames"])

# Colour: pictures, rows downwards, three channels.
rng = np.random.RandomState(9)
rgb = rng.randint(0, 256, (ROWS, COLUMNS, 3)).astype(np.uint8)


def colour(name, pixels, photometric, planar=0, extra=None):
    ds = make_series(name, np.zeros((1, *pixels.shape[:2]), np.int64), bits=8, signed=False)[0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, photometric, planar
    ds.PixelData = (pixels.transpose(2, 0, 1) if planar else pixels).tobytes()
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"):
        del ds[tag]
    return ds


def picture(pixels):
    return pixels.transpose(1, 0, 2)[:, :, None, :].astype(np.int32), np.eye(4)


save("rgb", [colour("rgb", rgb, "RGB")], EXPLICIT, picture(rgb))
save("rgb-planes", [colour("rgbp", rgb, "RGB", 1)], EXPLICIT, picture(rgb))
save("rgb-rle", [colour("rgbr", rgb, "RGB")], RLE, picture(rgb))
large = rng.randint(0, 256, (*WIDE[1:], 3)).astype(np.uint8)
save("rgb-jpeg-2000", [colour("rgbj", large, "RGB")], J2K, picture(large))
palette = make_series("palette", np.arange(240).reshape(1, ROWS, COLUMNS), bits=8, signed=False)[0]
palette.PhotometricInterpretation = "PALETTE COLOR"
tables = [rng.randint(0, 65536, 256).astype("<u2") for _ in range(3)]
for table, colour_name in zip(tables, ("Red", "Green", "Blue")):
    setattr(palette, f"{colour_name}PaletteColorLookupTableDescriptor", [256, 0, 16])
    setattr(palette, f"{colour_name}PaletteColorLookupTableData", table.tobytes())
index = np.arange(240).reshape(ROWS, COLUMNS)
save("palette", [palette], EXPLICIT, picture(np.stack([table[index] >> 8 for table in tables], -1)))
two = [colour("c1", rgb, "RGB"), colour("c2", rgb, "RGB")]
two[1].SeriesInstanceUID = two[0].SeriesInstanceUID
two[1].InstanceNumber = 2
luma = (np.array([0.299, 0.587, 0.114]) * rgb).sum(-1) + 0.5
placeless = np.diag([-0.75, 1.5, 2.5, 1])
placeless[:3, 3] = [0.75 * (COLUMNS - 1) / 2, -1.5 * (ROWS - 1) / 2, -2.5 / 2]
save("colour-series", two, EXPLICIT, (grid(sets, np.stack([luma, luma]).astype(np.int64))[0], placeless), note="their luminance was taken")

with open(os.path.join(OUT, "cases.json"), "w") as file:
    json.dump(cases, file, indent=1)

# Two archives for the repository: stored, then compressed as a whole, since the headers are alike.
half = next(i for i, case in enumerate(cases) if case["name"] == "sagittal")
for label, part in (("encodings", cases[:half]), ("geometry", cases[half:])):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("cases.json", json.dumps(part))
        for case in part:
            name = case["name"]
            for file in sorted(os.listdir(os.path.join(OUT, name))):
                archive.write(os.path.join(OUT, name, file), f"{name}/{file}")
            if "error" not in case:
                archive.write(os.path.join(OUT, f"{name}.bin"), f"{name}.bin")
    with open(os.path.join(OUT, f"dicom-{label}.zip.gz"), "wb") as file:
        file.write(gzip.compress(packed.getvalue(), 9, mtime=0))
