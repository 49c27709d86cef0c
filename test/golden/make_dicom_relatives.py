"""Makes DICOM files of every colour model and pixel layout, and files that break the standard yet are read by pydicom.

Usage: python make_dicom_relatives.py OUT

Then copy OUT/dicom-relatives.zip.gz to test/fixtures. Voxels are what pydicom makes of the same bytes (YBR converted),
places what was written here. Needs pydicom, Pillow, pylibjpeg with its openjpeg and libjpeg plugins,
pyjpegls, and DCMTK's dcmcjpeg.
"""
import gzip
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

warnings.simplefilter("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
OUT = sys.argv[1]
COLUMNS, ROWS = 16, 20
EXPLICIT, IMPLICIT, BIG, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
RLE, BASELINE, LOSSLESS1 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"
JPEGLS, J2K, J2K_LOSSY = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
NATIVE = (EXPLICIT, IMPLICIT, BIG, DEFLATED)
cases = []
rng = np.random.RandomState(11)


def element(tag, vr, value):
    """Explicit VR little endian, whatever `vr` is."""
    group, number = tag >> 16, tag & 0xFFFF
    long = vr in ("OB", "OW", "UN", "SQ", "OV", "SV", "UV", "UT")
    head = struct.pack("<HH2sHI" if long else "<HH2sH", group, number, vr.encode(), *([0, len(value)] if long else [len(value)]))
    return head + value


def image(name, pixels, photometric="MONOCHROME2", planar=0, syntax=EXPLICIT, k=0, sop="1.2.840.10008.5.1.4.1.1.2", place=True):
    """pixels: [row, column] or [row, column, sample]; of a 1-D array the bytes as they are."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID(sop)
    number = sum(map(ord, name))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"2.25.43.{number}.{k + 1}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.43", f"2.25.43.{number}"
    ds.PatientName, ds.PatientID, ds.Modality = "Golden^Relative", "GOLD-2", "OT"
    ds.StudyDate, ds.StudyTime, ds.SeriesNumber, ds.InstanceNumber = "20200101", "120000", 1, k + 1
    ds.Rows, ds.Columns = ROWS, COLUMNS
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = samples, photometric
    if samples > 1:
        ds.PlanarConfiguration = planar
    if place:
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-10, -20, -30 + 2.5 * k], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [1.5, 0.75], "2.5"
        ds.FrameOfReferenceUID = "2.25.43.9"
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == BIG else "<"
    stored = pixels.transpose(2, 0, 1) if planar else pixels
    ds.PixelData = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    ds.PixelData += b"\0" * (len(ds.PixelData) % 2)
    ds["PixelData"].VR = "OB" if bits == 8 and syntax != IMPLICIT else "OW"
    return ds


def write(ds, syntax=None, **options):
    """The file's bytes, compressed as `syntax` says."""
    if syntax not in (None, *NATIVE):
        ds.compress(UID(syntax), generate_instance_uid=False, **options)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dcmtk(data, *flags):
    path = os.path.join(OUT, "tmp.dcm")
    with open(path, "wb") as file:
        file.write(data)
    subprocess.run(["dcmcjpeg", *flags, "+un", path, path], check=True)
    with open(path, "rb") as file:
        return file.read()


def oracle(data):
    """What pydicom makes of a file: [frame, row, column] or [row, column, 3]."""
    ds = pydicom.dcmread(io.BytesIO(data), force=True)
    array = ds.pixel_array
    if ds.PhotometricInterpretation == "MONOCHROME1":
        array = (2**ds.BitsStored - 1 if ds.PixelRepresentation == 0 else -1) - array.astype(np.int64)
    return array


AFFINE = np.array([[-0.75, 0, 0, 10], [0, -1.5, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])


def save(name, files, real=None, note=None, within=0, affine=None):
    """files: bytes of each; real: what is expected, by default what pydicom makes of them."""
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    for k, data in enumerate(files):
        with open(os.path.join(folder, f"{k:03d}"), "wb") as file:
            file.write(data)
    real = oracle(files[0]) if real is None else real
    if real.ndim == 3 and real.shape[2] == 3 and len(files) == 1:
        data, grid = real.transpose(1, 0, 2)[:, :, None, :], np.eye(4)
    else:
        stack = real.reshape(-1, ROWS, COLUMNS)
        data = stack[:, ::-1].transpose(2, 1, 0)
        grid = AFFINE.copy()
        grid[1, 1], grid[1, 3] = 1.5, 20 - 1.5 * (ROWS - 1)
    grid = grid if affine is None else affine
    kind = "float64" if data.dtype.kind == "f" or data.dtype.itemsize > 4 or (data.dtype.kind == "u" and data.dtype.itemsize == 4) else "int32"
    data.astype(kind).ravel(order="F").tofile(os.path.join(OUT, f"{name}.bin"))
    case = {"name": name, "files": len(files), "size": list(data.shape), "affine": grid.tolist(), "dtype": kind}
    cases.append(case | ({"within": within} if within else {}) | ({"note": note} if note else {}))


# --- Colour models and layouts: transfer syntax x photometric interpretation x planes x numbers.
rgb = rng.randint(0, 256, (ROWS, COLUMNS, 3)).astype(np.uint8)
smooth = np.stack([np.add.outer(np.arange(ROWS) * a, np.arange(COLUMNS) * b) % 256 for a, b in ((3, 5), (7, 2), (1, 9))], -1).astype(np.uint8)
for syntax, word in ((EXPLICIT, "explicit"), (IMPLICIT, "implicit"), (BIG, "big-endian"), (DEFLATED, "deflated")):
    for photometric in ("RGB", "YBR_FULL"):
        for planar in (0, 1):
            name = f"{photometric.lower()}-{'planes' if planar else 'pixels'}-{word}"
            save(name, [write(image(name, rgb, photometric, planar, syntax))])
    wide = rng.randint(0, 65536, (ROWS, COLUMNS, 3)).astype(np.uint16)
    save(f"rgb-16-{word}", [write(image("w", wide, "RGB", 0, syntax))])
shared = rng.randint(0, 256, (ROWS, COLUMNS, 2)).astype(np.uint8)
ds = image("shared", rgb, "YBR_FULL_422")
ds.PixelData = shared.tobytes()
save("ybr-422-shared", [write(ds)])
frames = rng.randint(0, 256, (3, ROWS, COLUMNS, 2)).astype(np.uint8)
whole = image("whole", rgb, "YBR_FULL_422")
as_full = image("whole", rgb, "YBR_FULL")
save("ybr-422-in-full", [write(whole)], oracle(write(as_full)))
for photometric in ("RGB", "YBR_FULL"):
    for planar in (0, 1):
        name = f"{photometric.lower()}-{planar}-rle"
        save(name, [write(image(name, rgb, photometric, planar), RLE)])
save("rgb-16-rle", [write(image("w", wide, "RGB"), RLE)])
for flags, word in ((("+eb", "+s4"), "444"), (("+eb", "+s2"), "422"), (("+eb", "+cr"), "rgb")):
    save(f"jpeg-baseline-{word}", [dcmtk(write(image(word, smooth, "RGB")), *flags)], within=3)
for planar in (0, 1):
    save(f"jpeg-lossless-rgb-{planar}", [dcmtk(write(image("jl", rgb, "RGB", planar)), "+e1")])
save("jpeg-lossless-ybr", [dcmtk(write(image("jly", rgb, "YBR_FULL")), "+e1")])


def jpeg(pixels, jfif, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    data = buffer.getvalue()
    if not jfif:  # without its marker a stream says nothing of its colours
        size = struct.unpack(">H", data[4:6])[0]
        data = data[:2] + data[4 + size :]
    return data


for photometric in ("RGB", "YBR_FULL_422", "YBR_FULL"):
    for jfif in (True, False):
        ds = image("jfif", smooth, photometric)
        ds.PixelData = encapsulate([jpeg(smooth, jfif, subsampling=0)])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = UID(BASELINE)
        save(f"jpeg-{photometric.lower()}-{'with' if jfif else 'without'}-jfif", [write(ds)], within=3)
for photometric in ("RGB", "YBR_FULL"):
    save(f"jpeg-ls-{photometric.lower()}", [write(image("jls", rgb, photometric), JPEGLS)])
large = rng.randint(0, 256, (32, 32, 3)).astype(np.uint8)
ROWS, COLUMNS = 32, 32
save("j2k-rgb", [write(image("j2k", large, "RGB"), J2K)])
ybr = image("ybr", large, "YBR_FULL")
save("j2k-ybr-full", [write(ybr, J2K)])
ROWS, COLUMNS = 20, 16
tables = [rng.randint(0, 65536, 256).astype("<u2") for _ in range(3)]
index = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
for bits, first, syntax, word in ((8, 0, EXPLICIT, "8"), (16, 40, EXPLICIT, "16-from-40"), (16, 0, BIG, "16-big-endian"), (8, 0, RLE, "8-rle")):
    stored = (index % 256).astype(f"u{bits // 8}")
    ds = image("palette", stored, "PALETTE COLOR", 0, syntax if syntax in NATIVE else EXPLICIT)
    for table, colour in zip(tables, ("Red", "Green", "Blue")):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, first, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", table.astype(">u2" if syntax == BIG else "<u2").tobytes())
    # pydicom reads tables of big-endian files as little-endian, so the tables themselves are the measure.
    entry = np.clip(stored.astype(int) - first, 0, 255)
    save(f"palette-{word}", [write(ds, syntax)], np.stack([table[entry] >> 8 for table in tables], -1).astype(np.uint8))
for dtype in ("u1", "i1", "u2", "i2", "u4", "i4"):
    info = np.iinfo(dtype)
    grey = rng.randint(info.min, info.max, (ROWS, COLUMNS), dtype=np.int64).astype(dtype)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        for syntax, word in ((IMPLICIT, "implicit"), (BIG, "big-endian"), (DEFLATED, "deflated"), (RLE, "rle")):
            if syntax == RLE and dtype in ("u4", "i4"):
                continue
            ds = image("grey", grey, photometric, 0, syntax if syntax in NATIVE else EXPLICIT)
            save(f"{photometric.lower()}-{dtype}-{word}", [write(ds, syntax)])
for kind, tag in (("f4", "FloatPixelData"), ("f8", "DoubleFloatPixelData")):
    real = rng.normal(0, 1000, (ROWS, COLUMNS)).astype(kind)
    ds = image("real", np.zeros((ROWS, COLUMNS), "u2"))
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated = real.dtype.itemsize * 8
    setattr(ds, tag, real.tobytes())
    save(f"pixels-{kind}", [write(ds)], real)
bits = rng.randint(0, 2, (3, ROWS, COLUMNS)).astype(np.uint8)
ds = image("bits", bits[0])
ds.NumberOfFrames, ds.SpacingBetweenSlices = 3, "2.5"
ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
ds.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes()
save("one-bit", [write(ds)], bits)

# --- Files that break the standard.
grey = [rng.randint(-1000, 1000, (ROWS, COLUMNS)).astype(np.int16) for _ in range(4)]
volume = np.stack(grey)


def series(name, change=lambda ds, k: None, count=4, syntax=EXPLICIT):
    sets = []
    for k in range(count):
        ds = image(name, grey[k], syntax=syntax, k=k)
        change(ds, k)
        sets.append(ds)
    return sets


def files(name, change=lambda ds, k: None, syntax=EXPLICIT):
    return [write(ds) for ds in series(name, change, syntax=syntax)]


def with_syntax(data, old, new):
    a, b = (uid.encode().ljust(len(uid) + len(uid) % 2, b"\0") for uid in (old, new))
    at = data.index(b"\x02\0\x10\0UI" + struct.pack("<H", len(a)) + a)
    head = bytearray(data[:at])
    grown = len(b) - len(a)
    length = head.index(b"\x02\0\0\0UL\x04\0") + 8
    head[length : length + 4] = struct.pack("<I", struct.unpack("<I", head[length : length + 4])[0] + grown)
    return bytes(head) + b"\x02\0\x10\0UI" + struct.pack("<H", len(b)) + b + data[at + 8 + len(a) :]


def before(data, tag, extra):
    """`extra` in front of the first element of `tag` behind the meta information."""
    at = data.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 300)
    return data[:at] + extra + data[at:]


def body(data):
    """The data set alone."""
    length = struct.unpack("<I", data[140:144])[0]
    return data[144 + length :]


save("says-explicit-is-implicit", [with_syntax(f, IMPLICIT, EXPLICIT) for f in files("a1", syntax=IMPLICIT)], volume, "is implicit and was read so")
save("says-implicit-is-explicit", [with_syntax(f, EXPLICIT, IMPLICIT) for f in files("a2")], volume, "is explicit and was read so")
save("says-little-is-big-endian", [with_syntax(f, BIG, EXPLICIT) for f in files("a3", syntax=BIG)], volume, "other byte order")
for syntax, word in ((EXPLICIT, "explicit"), (IMPLICIT, "implicit"), (BIG, "big-endian")):
    save(f"no-meta-{word}", [body(f) for f in files(f"b-{word}", syntax=syntax)], volume)
save("no-preamble", [f[132:] for f in files("b4")], volume)
save("prefix-without-preamble", [f[128:] for f in files("b5")], volume)
save("meta-length-wrong", [f[:140] + struct.pack("<I", 7) + f[144:] for f in files("b6")], volume)
no_syntax = []
for f in files("b7"):
    meta = element(0x00020002, "UI", b"1.2.840.10008.5.1.4.1.1.2\0")
    no_syntax.append(bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta + body(f))
save("meta-without-syntax", no_syntax, volume)
for vr in ("UV", "SV", "OV"):
    save(f"vr-{vr.lower()}", [before(f, 0x00280002, element(0x00190010, vr, bytes(8))) for f in files(f"c{vr}")], volume)
for vr, word in (("ZZ", "zz"), ("??", "marks"), ("\0\0", "zeros"), ("  ", "spaces")):
    save(f"vr-{word}", [before(f, 0x00280002, element(0x00191001, vr, b"some value")) for f in files(f"d{word}")], volume)
item = lambda content: b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content
open_item = lambda content: b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content + b"\xfe\xff\x0d\xe0\0\0\0\0"
open_sequence = lambda tag, vr, content: struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, 0xFFFFFFFF) + content + b"\xfe\xff\xdd\xe0\0\0\0\0"
implicit_element = struct.pack("<HHI", 0x0008, 0x0100, 4) + b"CODE"
explicit_element = element(0x00080100, "SH", b"CODE")
nested = open_sequence(0x00081140, b"SQ", open_item(explicit_element + open_sequence(0x00081199, b"SQ", open_item(explicit_element) + item(explicit_element))))
save("sequences-nested", [before(f, 0x00280002, open_sequence(0x00191010, b"SQ", open_item(nested))) for f in files("e1")], volume)
save("un-undefined-length", [before(f, 0x00280002, open_sequence(0x00191010, b"UN", open_item(implicit_element) + item(implicit_element))) for f in files("e2")], volume)
save("un-undefined-explicit-inside", [before(f, 0x00280002, open_sequence(0x00191010, b"UN", open_item(explicit_element))) for f in files("e3")], volume)
save("odd-length", [before(f, 0x00280002, element(0x00191011, "LO", b"odd")) for f in files("e4")], volume)
save("private-over-64-kib", [before(f, 0x00280002, element(0x00191012, "OB", bytes(100_000))) for f in files("e5")], volume)
save("bytes-behind", [f + b"\0" * 11 for f in files("f1")], volume)
save("padding-element-behind", [f + element(0xFFFCFFFC, "OB", bytes(10)) for f in files("f2")], volume)
save("pixels-longer", files("f3", lambda ds, k: setattr(ds, "PixelData", ds.PixelData + bytes(6))), volume)


def no_frames(ds, k):
    ds.NumberOfFrames = 0


save("number-of-frames-0", files("g1", no_frames), volume, "NumberOfFrames is 0, read as 1")


def same_uid(ds, k):
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.43.1"


save("one-sop-instance-uid", files("g2", same_uid), volume, "share their SOPInstanceUID")


def letters(ds, k):
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID = f"anon.{k}.abc", "anon.series", "anon.study"


save("uids-with-letters", files("g3", letters), volume)


def unsigned_too(ds, k):
    if k % 2:
        ds.PixelRepresentation = 0
        ds.PixelData = (grey[k].astype(np.int32) + 1000).astype("<u2").tobytes()


mixed = np.stack([slab.astype(np.int32) + 1000 * (k % 2) for k, slab in enumerate(grey)])
save("mixed-pixel-representation", files("g4", unsigned_too), mixed)


def mono(ds, k):
    ds.BitsStored, ds.HighBit = 20, 15


save("bits-stored-too-many", files("g5", mono), volume, "BitsStored is 20")
scout = image("h1", rng.randint(0, 99, (ROWS, COLUMNS)).astype(np.int16), k=8)
scout.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
save("scout-inside", [*files("h1")[:2], write(scout), *files("h1")[2:]], volume, "file 3 of 5 left out: it has another orientation")
page = image("h2", rgb, "RGB", k=9, place=False, sop="1.2.840.10008.5.1.4.1.1.7")
page.SeriesInstanceUID = "2.25.43.999"
save("dose-page-inside", [*files("h2"), write(page)], volume, "file 5 of 5 left out: it is of another series")
for syntax, word, tail in ((BASELINE, "jpeg", b"\0\0trailing bytes"), (J2K, "jpeg-2000", b"\0\0trailing bytes"), (JPEGLS, "jpeg-ls", b"\0" * 9 + b"x")):
    big = (np.add.outer(np.arange(32), np.arange(32)) * 4).astype(np.uint8)
    ROWS, COLUMNS = 32, 32
    plain = image(f"tail-{word}", big)
    data = dcmtk(write(plain), "+eb") if syntax == BASELINE else write(plain, syntax)
    ds = pydicom.dcmread(io.BytesIO(data))
    frame = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)) + tail
    real = oracle(data)
    ds.PixelData = encapsulate([frame])
    grid = AFFINE.copy()
    grid[1, 1], grid[1, 3] = 1.5, 20 - 1.5 * 31
    save(f"bytes-behind-{word}", [write(ds)], real, within=2, affine=grid)
    ROWS, COLUMNS = 20, 16
cine = rng.randint(0, 256, (6, ROWS, COLUMNS)).astype(np.uint8)
ds = image("cine", cine[0], place=False, sop="1.2.840.10008.5.1.4.1.1.3.1")
ds.NumberOfFrames, ds.PixelData, ds.FrameTime = 6, cine.tobytes(), "40"
centred = np.diag([-1.0, 1, 1, 1])
centred[:3, 3] = [(COLUMNS - 1) / 2, -(ROWS - 1) / 2, -2.5]
save("cine", [write(ds)], cine, "do not say where their 6 frames lie", affine=centred)
ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
save("cine-rle", [write(ds, RLE)], cine, affine=centred)
nm = image("nm", cine[0], sop="1.2.840.10008.5.1.4.1.1.20")
nm.NumberOfFrames, nm.PixelData, nm.SpacingBetweenSlices = 6, cine.tobytes(), "-4.5"
down = AFFINE.copy()
down[1, 1], down[1, 3], down[2] = 1.5, 20 - 1.5 * (ROWS - 1), [0, 0, 4.5, -30 - 4.5 * 5]
save("frames-downwards", [write(nm)], cine[::-1], affine=down)

with open(os.path.join(OUT, "cases.json"), "w") as file:
    json.dump(cases, file, indent=1)
packed = io.BytesIO()
with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
    archive.writestr("cases.json", json.dumps(cases))
    for case in cases:
        for file in sorted(os.listdir(os.path.join(OUT, case["name"]))):
            archive.write(os.path.join(OUT, case["name"], file), f"{case['name']}/{file}")
        archive.write(os.path.join(OUT, f"{case['name']}.bin"), f"{case['name']}.bin")
with open(os.path.join(OUT, "dicom-relatives.zip.gz"), "wb") as file:
    file.write(gzip.compress(packed.getvalue(), 9, mtime=0))
print(len(cases), "cases")
