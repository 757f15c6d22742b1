"""What is on a disk after the power was cut: every write up to the last flush, and of the later ones some.

While a guest runs, qemu's blklogwrites driver notes each write and each flush in a file (the format of
the kernel's dm-log-writes); `settle` plays it back onto the disk.
"""
import mmap
import os
import struct

SECTOR = 512
MAGIC = 0x6A736677736872
FLUSH, DISCARD = 1, 4


def entries(log, size):
    """(offset in bytes, where the data are in the log or None, length, flags) in the order of completion."""
    magic, version, _, sector = struct.unpack_from("<QQQI", log, 0)
    if (magic, version, sector) != (MAGIC, 1, SECTOR):
        raise RuntimeError("the log of writes has another format")
    position = SECTOR
    while position + SECTOR <= len(log):
        first, count, flags, _ = struct.unpack_from("<QQQQ", log, position)
        length = count * SECTOR
        has_data = not flags & DISCARD
        end = position + SECTOR + (length if has_data else 0)
        # The log ends in zeros, or in an entry that was being written.
        if (count == 0 and flags == 0) or end > len(log) or first * SECTOR + length > size:
            return
        yield first * SECTOR, position + SECTOR if has_data else None, length, flags
        position = end


def settle(disk, log, chance):
    """Bring `disk` to a state that the cut may have left; `chance` is a random.Random, or None for a disk
    that was allowed to write everything. Returns how many writes were lost."""
    if os.path.getsize(log) < SECTOR:
        return 0
    with open(disk, "r+b") as target, open(log, "rb") as file:
        written = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = os.path.getsize(disk)
        every = list(entries(written, size))
        flushed = max((index + 1 for index, entry in enumerate(every) if entry[3] & FLUSH), default=0)
        lost = 0
        for index, (offset, data, length, _) in enumerate(every):
            if length == 0 or data is None:  # a discard promises nothing about what is read later
                continue
            keep = length
            if chance and index >= flushed:
                # Not at all, whole, or torn between two sectors.
                keep = chance.choice((0, length, chance.randrange(length // SECTOR + 1) * SECTOR))
                lost += keep < length
            target.seek(offset)
            target.write(written[data:data + keep])
        written.close()
    return lost
