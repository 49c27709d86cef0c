"""Writes polygon_golden.json: what OpenCV makes of the masks and polygons of test/helpers/random-masks.ts.

python3 test/golden/make_polygon_golden.py   (needs numpy and opencv-python; 4.5.5 and 5.0.0 give the same file)
"""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

MASKS = 2500
MORE_POINTS = (0, 1, 5, 10, 50)
WHOLE_UP_TO = 5


def xorshift32(seed):
    state = seed & 0xFFFFFFFF or 1

    def below(n):
        nonlocal state
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        return state % n

    return below


def random_mask(seed):
    below = xorshift32(seed * 2654435761)
    columns = 1 + below(40)
    rows = 1 + below(40)
    mask = np.zeros((rows, columns), np.uint8)

    def put(column, row, value):
        if 0 <= column < columns and 0 <= row < rows:
            mask[row, column] = value

    kind = seed % 10
    if kind < 5:
        percent = (5, 25, 50, 75, 95)[kind]
        for row in range(rows):
            for column in range(columns):
                mask[row, column] = below(100) < percent
    elif kind == 5:
        centre_column = below(columns)
        centre_row = below(rows)
        width = 1 + below(3)
        for row in range(rows):
            for column in range(columns):
                square = (column - centre_column) ** 2 + (row - centre_row) ** 2
                put(column, row, square // (8 * width) % 2)
    elif kind == 6:
        for _ in range(1 + below(5)):
            column = below(columns)
            row = below(rows)
            step_column = below(3) - 1
            step_row = below(3) - 1
            for _ in range(below(40) + 1):
                put(column, row, 1)
                column += step_column
                row += step_row
    elif kind == 7:
        for _ in range(1 + below(12)):
            column0 = below(columns)
            row0 = below(rows)
            width = below(columns)
            height = below(rows)
            mask[row0 : row0 + height + 1, column0 : column0 + width + 1] = below(2)
    elif kind == 8:
        gap = 1 + below(3)
        for row in range(rows):
            for column in range(columns):
                depth = min(column, row, columns - 1 - column, rows - 1 - row)
                put(column, row, depth % (gap + 1) == 0 and below(20) > 0)
    else:
        mask[:] = below(2)
    return mask


def random_polygons(seed):
    rows, columns = random_mask(seed).shape
    below = xorshift32(seed * 40503 + 1)
    polygons = []
    for _ in range(1 + below(3)):
        count = 1 + below(9)
        polygons.append(np.array([[below(columns), below(rows)] for _ in range(count)], np.int32))
    return polygons


def polygons_of(mask, more_points):
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    rings = [contour.reshape(-1, 2) for contour in contours]
    return [(ring if len(ring) <= WHOLE_UP_TO else ring[:: more_points + 1]).tolist() for ring in rings]


def digest(data):
    return hashlib.sha256(data).hexdigest()[:10]


def main():
    contours = []
    fills = []
    for seed in range(1, MASKS + 1):
        mask = random_mask(seed)
        lists = [polygons_of(mask, more_points) for more_points in MORE_POINTS]
        contours.append(digest(json.dumps(lists, separators=(",", ":")).encode()))
        filled = np.zeros_like(mask)
        cv2.fillPoly(filled, random_polygons(seed), 1)
        fills.append(digest(filled.tobytes()))
    golden = {
        "morePoints": MORE_POINTS,
        "contours": contours,
        "fills": fills,
        "example": {"seed": 7, "polygons": polygons_of(random_mask(7), 0)},
    }
    path = Path(__file__).parent / "polygon_golden.json"
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
