"""DICOM files and bytes to images: an index of headers, decoding in processes of its own, a report card.

    sources.py  what is read: files, members of zips, bytes
    reasons.py  the closed list of why a file is refused, and of what is repaired
    header.py   one file's header, allow-listed; frames.py its frames
    windows.py  pixels.py  stored values to [0, 1];  text.py  text burned into pixels
    worker.py   the process that parses and decodes;  pool.py  the parent's side of it
    series.py   order, gaps, stacks and the cap of a patient
    ingest.py   all of it;  folder.py  a folder with its manifest;  cache.py  report_card.py
    stream.py   objects of an archive, one by one;  bare.py  what is kept of each;  objects.py  read again
    sealing.py  encryption on the disk;  segments.py  the segmentations among files

What runs in a worker (all but series, ingest, folder, cache, stream, objects and segments) imports neither
torch nor MONAI.
"""
