"""Write small files of microscopes, of random planes: what `plane` draws is what is to be read."""

import struct

import numpy as np

SHAPE = (40, 50)


def plane(scene=0, t=0, c=0, *, shape=SHAPE, dtype=np.uint16):
    """Draw noise that no other plane has."""
    rng = np.random.default_rng([scene, t, c])
    return rng.integers(1, np.iinfo(dtype).max, shape, dtype=dtype)


def write_czi(path, *, scenes=1, times=1, channels=1, sections=1, micrometres=0.25, lacks=()):
    """Write scenes side by side by ZEISS's library; `lacks` lists (scene, t, c) left out."""
    from pylibCZIrw.czi import create_czi

    with create_czi(str(path), exist_ok=True) as writer:
        for scene, t, c, z in np.ndindex(scenes, times, channels, sections):
            if (scene, t, c) not in lacks:
                writer.write(
                    plane(scene, t, c)[..., None],
                    plane={"T": t, "C": c, "Z": z},
                    location=(100 * scene + 7, -20),
                    scene=scene,
                )
        metres = micrometres * 1e-6
        writer.write_metadata("drawn", scale_x=metres, scale_y=2 * metres)
    return path


def write_lif(path, images, *, dtype=np.uint8):
    """Write Leica images, each a list of axes from the outermost, such as ``[("T", 3), ("C", 2)]``.

    Y and X come last by themselves. Pixels measure 0.5 by 0.25 micrometres.
    """
    elements, blocks = "", b""
    for number, outer in enumerate(images):
        sizes = dict(outer)
        stored = np.stack(
            [
                plane(number, t, c, dtype=dtype)
                for t, c, _ in np.ndindex(*(sizes.get(axis, 1) for axis in "TCZ"))
            ]
        )
        steps = {"X": stored.itemsize, "Y": stored.itemsize * SHAPE[1]}
        step = stored.itemsize * SHAPE[0] * SHAPE[1]
        for axis, size in reversed(outer):
            steps[axis], step = step, step * size
        lengths = {"X": 0.25e-6 * (SHAPE[1] - 1), "Y": 0.5e-6 * (SHAPE[0] - 1)}
        ids = {"X": 1, "Y": 2, "Z": 3, "T": 4}
        all_sizes = {"X": SHAPE[1], "Y": SHAPE[0], **sizes}
        dimensions = "".join(
            f'<DimensionDescription DimID="{ids[axis]}" NumberOfElements="{size}" Origin="0" '
            f'Length="{lengths.get(axis, 1)}" Unit="m" BitInc="0" BytesInc="{steps[axis]}"/>'
            for axis, size in all_sizes.items()
            if axis != "C"
        )
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{8 * stored.itemsize}" '
            f'NameOfMeasuredQuantity="" Min="0" Max="255" Unit="" LUTName="Green" '
            f'IsLUTInverted="0" BytesInc="{c * steps.get("C", 0)}" BitInc="0"/>'
            for c in range(sizes.get("C", 1))
        )
        block = f"MemBlock_{number}"
        elements += (
            f'<Element Name="Series {number}"><Data><Image><ImageDescription><Channels>{channels}'
            f"</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
            f'<Memory Size="{stored.nbytes}" MemoryBlockID="{block}"/></Element>'
        )
        name = block.encode("utf-16-le")
        about = (0x70, 14 + len(name), 0x2A, stored.nbytes, 0x2A, len(block))
        blocks += struct.pack("<IIBQBI", *about)
        blocks += name + stored.tobytes()
    xml = (
        f'<LMSDataContainerHeader Version="2"><Element Name="drawn"><Children>{elements}'
        "</Children></Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    header = struct.pack("<IIBI", 0x70, 5 + len(xml), 0x2A, len(xml) // 2)
    path.write_bytes(header + xml + blocks)
    return path


def write_nd2(path, *, positions=1, times=1, channels=1, sections=1, taken=None, calibrated=True):
    """Write an ND2 of version 3; `taken` frames of all, where the others were given up."""
    loops = [
        (1, times, {"uiCount": times, "dStart": 0.0, "dPeriod": 1.0, "dDuration": 1.0}),
        (2, positions, {"Points": {f"i{n:010}": {"dPosX": float(n)} for n in range(positions)}}),
        (4, sections, {"uiCount": sections, "dZStep": 1.0}),
    ]
    experiment = {}
    for kind, size, parameters in reversed(loops):
        if size > 1:
            inner = {"ppNextLevelEx": {"i0": experiment}} if experiment else {}
            experiment = {"eType": kind, "uLoopPars": parameters, **inner}
    frames = [(t, p) for t, p, _ in np.ndindex(times, positions, sections)][:taken]
    height, width = SHAPE
    attributes = {
        **{"uiWidth": width, "uiWidthBytes": 2 * width * channels, "uiHeight": height},
        **{"uiComp": channels, "uiBpcInMemory": 16, "uiBpcSignificant": 16},
        **{"uiSequenceCount": len(frames), "eCompression": 2},
    }
    known = {"uiCompCount": 1, "sDescription": "", "pFluorescentProbe": {"m_uiColor": 1}}
    planes = {f"i{c:010}": known for c in range(channels)}
    picture = {
        **{"bCalibrated": calibrated, "dCalibration": 0.325},
        "sPicturePlanes": {"uiCount": channels, "sPlaneNew": planes},
    }
    parts = {
        b"ImageAttributesLV!": _lite({"SLxImageAttributes": attributes}),
        b"ImageMetadataSeqLV|0!": _lite({"SLxPictureMetadata": picture}),
        **({b"ImageMetadataLV!": _lite({"SLxExperiment": experiment})} if experiment else {}),
    }
    for at, (t, p) in enumerate(frames):
        pixels = np.stack([plane(p, t, c) for c in range(channels)], axis=-1)
        parts[b"ImageDataSeq|%d!" % at] = struct.pack("<d", at) + pixels.tobytes()
    data = _chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"))
    listed = b""
    for name, content in parts.items():
        listed += name + struct.pack("<QQ", len(data), len(content))
        data += _chunk(name.ljust(4072, b"\0"), content)  # pixels begin 4096 bytes on
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    at = len(data)
    data += _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", listed + end + struct.pack("<Q", at))
    path.write_bytes(data + end + struct.pack("<Q", at))
    return path


def _chunk(name, content):
    return struct.pack("<IIQ", 0x0ABECEDA, len(name), len(content)) + name + content


def _lite(values):
    """Encode a mapping as ND2 does: type, length of the name, name and value of each."""
    parts = b""
    for name, value in values.items():
        said = name.encode("utf-16-le") + b"\0\0"
        kind = {bool: 1, int: 3, float: 6, str: 8, dict: 11}[type(value)]
        start = struct.pack("BB", kind, len(name) + 1) + said
        if kind == 11:
            inner = _lite(value)
            size = len(start) + 12 + len(inner)
            parts += start + struct.pack("<IQ", len(value), size) + inner + bytes(8 * len(value))
        elif kind == 8:
            parts += start + value.encode("utf-16-le") + b"\0\0"
        else:
            parts += start + struct.pack({1: "<B", 3: "<I", 6: "<d"}[kind], value)
    return parts
