"""What files of images are called."""

TIFF_SUFFIXES = (".tif", ".tiff")
LABEL_SUFFIXES = (*TIFF_SUFFIXES, ".png")
"""Of files that hold numbers of objects: the others change them, or aren't written by any tool."""

JPEG_SUFFIXES = (".jpg", ".jpeg")
RASTER_SUFFIXES = (".png", ".bmp", *JPEG_SUFFIXES)
MICROSCOPE_SUFFIXES = (".czi", ".lif", ".nd2")
IMAGE_SUFFIXES = (*LABEL_SUFFIXES, ".bmp", *JPEG_SUFFIXES, *MICROSCOPE_SUFFIXES)

UNREAD_SUFFIXES = (
    *(".svs", ".ndpi", ".scn", ".mrxs", ".vsi", ".bif", ".qptiff", ".vms"),  # of slides
    *(".lsm", ".zvi", ".lof", ".xlef", ".oib", ".oif", ".oir", ".ims", ".stk", ".dv", ".flex"),
    *(".jp2", ".jpx", ".webp", ".gif", ".heic", ".dcm", ".nrrd", ".mha", ".nii", ".mrc", ".dm3"),
    *(".dm4", ".raw", ".cr2", ".nef", ".dng", ".h5", ".hdf5", ".btf", ".tf8", ".avi", ".mp4"),
)
"""Of files that hold images in formats that aren't read: they are named where they are left out."""
