"""Canaries: texts that stand in private data and nowhere else, and how one is found again in what left the house, whole or in
pieces of ten characters, plain, backwards, in another case, with other characters between, in hex, base64 or rot13."""
import base64
import codecs
import re

# Letters that spell nothing, so that no piece stands anywhere by chance.
ALL = [f"qzx{n}vwkqjzxfgqpzvjw{n}kxq" for n in range(8)]
PIECE = 10


def pieces(text):
    return {text[i:i + PIECE] for i in range(len(text) - PIECE + 1)}


PLAIN, CODED = {}, {}
for whole in ALL:
    for form in (whole, whole[::-1], codecs.encode(whole, "rot13")):
        for piece in pieces(form):
            PLAIN[piece] = whole
    for i in range(len(whole) - 9):
        CODED[base64.b64encode(whole[i:i + 9].encode()).decode()] = whole
        PLAIN[whole[i:i + 9].encode().hex()] = whole
FIND_PLAIN = re.compile("|".join(map(re.escape, PLAIN)))
FIND_CODED = re.compile("|".join(map(re.escape, CODED)))
OTHER = re.compile(r"[^a-z0-9]+")
ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|\\u00[0-9a-fA-F]{2}|=\r?\n")
HEAD = re.compile(r"=([0-9A-F]{2})")


def found(text):
    """The canary that stands in it, or None."""
    plain = ESCAPE.sub(lambda m: "" if m[0][0] == "=" else chr(int(m[0][-2:], 16)), text)
    plain = HEAD.sub(lambda m: chr(int(m[1], 16)), plain)
    hit = FIND_PLAIN.search(OTHER.sub("", plain.lower()))
    if hit:
        return PLAIN[hit[0]]
    hit = FIND_CODED.search(re.sub(r"\s+|\\[rn]", "", text))
    return CODED[hit[0]] if hit else None


def decoded_mail(text):
    """The same of a mail, whose parts may be in base64."""
    out = [text]
    for block in re.findall(r"(?:[A-Za-z0-9+/=]{40,}\r?\n)+[A-Za-z0-9+/=]*", text):
        try:
            out.append(base64.b64decode(re.sub(r"\s", "", block)).decode(errors="replace"))
        except ValueError:
            pass
    return "\n".join(out)
