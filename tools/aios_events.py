"""The bytes of an event of aios, read as src/core/events.def declares them: what people are shown can be compared with it."""
import json


def varint(b, at):
    v = n = 0
    while True:
        v |= (b[at] & 127) << n
        n, at = n + 7, at + 1
        if b[at - 1] < 128:
            return v, at


def zigzag(v):
    return v >> 1 ^ -(v & 1)


def take(b, at, n):
    if at + n > len(b):
        raise ValueError("it ends too early")
    return b[at:at + n], at + n


def as_json(raw):
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def field(kind, raw, at):
    """Its value as aios shows it, and where the next begins. Fields that an older aios did not write are zero."""
    if at >= len(raw):
        raw, at = bytes(33), 0
        value = field(kind, raw, at)[0]
        return value, None
    if kind[0] == "u":
        return varint(raw, at)
    if kind == "i64":
        v, at = varint(raw, at)
        return zigzag(v), at
    if kind == "hash":
        v, at = take(raw, at, 32)
        return v.hex(), at
    n, at = varint(raw, at)
    if kind == "blob" and n & 1:
        v, at = take(raw, at, 32)
        return {"hash": v.hex(), "bytes": n >> 1}, at
    v, at = take(raw, at, n >> 1 if kind == "blob" else n)
    if kind == "bytes":
        return ({"bytes": len(v)} if len(v) > 64 else v.hex()), at
    if kind == "str":
        return v.decode("utf-8", "replace"), at
    return (None if kind == "json" and not v else as_json(v)), at


def decode(raw, records):
    kind, at = varint(raw, 0)
    time, at = varint(raw, at)
    n, at = varint(raw, at)
    subject, at = take(raw, at, n)
    if kind not in records:
        raise ValueError(f"a newer aios wrote an event of kind {kind}: take its events.def")
    out = {"at": zigzag(time), "type": records[kind][0].replace("_", ".", 1)}
    if subject:
        return {**out, "subject": subject.decode()}  # a person's, encrypted: proven, but not readable
    for t, f in records[kind][1]:
        out[f], after = field(t, raw, at)
        at = len(raw) if after is None else after
    return out


def declared(path):
    records, fields = {}, []
    for words in (line.split("#")[0].split() for line in open(path, encoding="utf-8")):
        if words and words[0] == "record":
            fields = []
            records[int(words[2])] = (words[1], fields)
        elif words:
            fields.append((words[0], "of_seq" if words[1] == "seq" else words[1]))
    return records
