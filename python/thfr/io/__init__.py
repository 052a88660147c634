"""Files in and out: images, masks, anomaly maps, names, and atomic writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thfr.lazy import lazy_exports

if TYPE_CHECKING:
    from thfr.io.decoding import MAX_PIXELS, Decoded, Header, decode, image_size, read_header
    from thfr.io.depths import BIT_DEPTHS
    from thfr.io.files import atomic_path, atomic_write_json, atomic_write_text, file_sha256
    from thfr.io.framing import FITS, Fit, Region, read_region
    from thfr.io.images import (
        AS_STORED,
        ImageInput,
        ReadOptions,
        framed,
        read_both,
        read_image,
        read_input,
        read_resized,
        resize_for_model,
    )
    from thfr.io.listing import IMAGE_SUFFIXES, Listing, find_images, list_images
    from thfr.io.maps import read_map, write_map
    from thfr.io.masks import BinaryMask, read_binary_mask, read_mask
    from thfr.io.names import csv_cell, printable, result_name, storable
    from thfr.io.pixel_range import EIGHT_BITS, PixelRange, find_pixel_range

# Imported on first use: escaping a name needs neither NumPy nor Pillow.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "decoding": (
            "MAX_PIXELS",
            "Decoded",
            "Header",
            "decode",
            "image_size",
            "read_header",
        ),
        "depths": ("BIT_DEPTHS",),
        "files": (
            "atomic_path",
            "atomic_write_json",
            "atomic_write_text",
            "file_sha256",
        ),
        "framing": (
            "FITS",
            "Fit",
            "Region",
            "read_region",
        ),
        "images": (
            "AS_STORED",
            "ImageInput",
            "ReadOptions",
            "framed",
            "read_both",
            "read_image",
            "read_input",
            "read_resized",
            "resize_for_model",
        ),
        "listing": (
            "IMAGE_SUFFIXES",
            "Listing",
            "find_images",
            "list_images",
        ),
        "maps": (
            "read_map",
            "write_map",
        ),
        "masks": (
            "BinaryMask",
            "read_binary_mask",
            "read_mask",
        ),
        "names": (
            "csv_cell",
            "printable",
            "result_name",
            "storable",
        ),
        "pixel_range": (
            "EIGHT_BITS",
            "PixelRange",
            "find_pixel_range",
        ),
    },
)

__all__ = [
    "AS_STORED",
    "BIT_DEPTHS",
    "EIGHT_BITS",
    "FITS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "BinaryMask",
    "Decoded",
    "Fit",
    "Header",
    "ImageInput",
    "Listing",
    "PixelRange",
    "ReadOptions",
    "Region",
    "atomic_path",
    "atomic_write_json",
    "atomic_write_text",
    "csv_cell",
    "decode",
    "file_sha256",
    "find_images",
    "find_pixel_range",
    "framed",
    "image_size",
    "list_images",
    "printable",
    "read_binary_mask",
    "read_both",
    "read_header",
    "read_image",
    "read_input",
    "read_map",
    "read_mask",
    "read_region",
    "read_resized",
    "resize_for_model",
    "result_name",
    "storable",
    "write_map",
]
