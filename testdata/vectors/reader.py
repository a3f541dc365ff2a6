#!/usr/bin/env python3
"""An independent reader of modmirror bundles, written from docs/format.md and the schemas in index.

Usage: reader.py [--require N] --trust FILE BUNDLE...

It prints one line a bundle, "NAME ok" or "NAME CLASS: reason", where CLASS (tar, signature,
manifest or index) is the first check that fails. The exit code is 0 when all files could be read.
"""
import argparse
import base64
import datetime
import hashlib
import os
import pathlib
import re
import sqlite3
import sys
import tempfile
import time
import unicodedata
import urllib.parse
from typing import Any, BinaryIO, Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SCHEMAS = {1: "schema1.sql", 2: "schema2.sql", 3: "schema.sql"}  # by user_version
INDEX = pathlib.Path(__file__).resolve().parents[2] / "index"
BLOCK, PAGE, NOTE = 512, 4096, 16384
END = bytes(2 * BLOCK)  # of every tar
SECONDS = 5.0  # for all of SQLite's work on one index
Keys = dict[tuple[str, bytes], bytes]  # (name, key id) to Ed25519 public key
Row = dict[str, Any]
Check = Callable[[Any], bool]


class Refused(Exception):
    """The bundle is not to be believed: the class of the check, and why."""


def demand(holds: Any, kind: str, reason: str) -> None:
    if not holds:
        raise Refused(kind, reason)


# tar


def padded(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK


def header_block(name: bytes, prefix: bytes, size: int, kind: bytes) -> bytes:
    """One ustar header. It comes out too long, and so equals none, when size needs 12 digits."""
    zero, mtime = b"0000000\0", b"07033241600\0"  # 2000-01-01
    start = name.ljust(100, b"\0") + b"0000644\0" + zero * 2 + b"%011o\0" % size + mtime
    end = kind + bytes(100) + b"ustar\x0000" + bytes(64) + zero * 2 + prefix.ljust(155, b"\0")
    total = sum(start + b" " * 8 + end)
    return (start + b"%06o\0 " % total + end).ljust(BLOCK, b"\0")


def tar_header(path: str, size: int) -> bytes:
    """All blocks before a file's content, which depend on its name and size only."""
    name = path.encode()
    if len(name) <= 100:
        return header_block(name, b"", size, b"0")
    cut = name.rfind(b"/", 0, 156)  # the longest prefix that fits
    if cut > 0 and 1 <= len(name) - cut - 1 <= 100:
        return header_block(name[cut + 1:], name[:cut], size, b"0")
    rest = b" path=%s\n" % name
    length = len(rest) + len(str(len(rest)))  # a pax record's length counts its own digits
    length = len(rest) + len(str(length))
    record = str(length).encode() + rest
    pax = header_block(b"././@PaxHeader", b"", length, b"x")
    return pax + record.ljust(padded(length), b"\0") + header_block(name[:100], b"", size, b"0")


def copy(f: BinaryIO, size: int, to: BinaryIO | None = None) -> bytes:
    """Reads size bytes, perhaps writes them, and returns their SHA-256."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := f.read(min(size, 1 << 20))):
        size -= len(chunk)
        digest.update(chunk)
        if to:
            to.write(chunk)
    return digest.digest()


def check_payload(f: BinaryIO, files: list[Row]) -> None:
    """Reads the files to the end of the tar; the index has shown that they tile it."""
    for file in files:
        path, size = file["path"], file["size"]
        header = tar_header(path, size)
        demand(f.read(len(header)) == header, "tar", f"header of {path}")
        demand(copy(f, size) == file["sha256"], "tar", f"SHA-256 of {path}")
        demand(not any(f.read(padded(size) - size)), "tar", f"padding of {path}")
    demand(f.read(len(END) + 1) == END, "tar", "end blocks")


# Signed notes


def unbase64(text: str) -> bytes:
    """Nothing when text is not the one base64 encoding of its bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return b""
    return data if base64.b64encode(data).decode() == text else b""


def is_key_name(name: str) -> bool:
    return name != "" and "+" not in name and not any(c.isspace() for c in name)


def read_keys(path: str) -> Keys:
    keys: Keys = {}
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, key_id, text = (line.strip().split("+", 2) + ["", ""])[:3]
        key = unbase64(text)
        want = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
        if not is_key_name(name) or len(key) != 33 or key[0] != 1 or key_id != want.hex():
            raise ValueError(f"{path}: bad key {line!r}")
        if keys.setdefault((name, want), key[1:]) != key[1:]:
            raise ValueError(f"{path}: two keys with one name and id: {line!r}")
    return keys


def verifies(key: bytes, signature: bytes, text: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def open_note(data: bytes, keys: Keys) -> tuple[str, set[bytes]]:
    """Returns the text of a signed note and the trusted public keys that signed it."""
    note = data.decode("utf-8", "replace")
    demand(note.encode() == data, "signature", "note is not UTF-8")
    demand(not any(c < " " and c != "\n" for c in note), "signature", "control character")
    text, blank, rest = note.rpartition("\n\n")
    text += "\n"
    lines = rest.split("\n")[:-1]
    demand(blank and 1 <= len(lines) <= 100, "signature", f"{len(lines)} signatures")
    signers = set()
    for line in lines:
        dash, name, encoded = (line.split(" ", 2) + ["", ""])[:3]
        raw = unbase64(encoded)
        demand(dash == "\u2014" and is_key_name(name) and len(raw) > 4, "signature", repr(line))
        key = keys.get((name, raw[:4]))
        if key is not None:  # a signature of somebody unknown says nothing
            demand(verifies(key, raw[4:], text), "signature", f"bad signature of {name}")
            signers.add(key)
    return text, signers


# MANIFEST

NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a bundle
DIGITS = "(?:0|[1-9][0-9]*)"
MANIFEST = re.compile(
    f"modmirror bundle v1\nname (?P<name>{NAME})\nsequence (?P<sequence>{DIGITS})\n"
    f"created (?P<created>[0-9TZ:-]{{20}})\nsize (?P<size>{DIGITS})\n"
    f"index (?P<index>[0-9a-f]{{64}}) (?P<index_size>{DIGITS})\n"
    "(?:base (?P<base>[0-9a-f]{64})\n)?"
    f"(?:head (?P<head>[^ \n]+) (?P<head_size>{DIGITS}) (?P<hash>[^ \n]+)\n)?"
    f"modules (?P<modules>{DIGITS})\nversions (?P<versions>{DIGITS})\n"
    f"modonly (?P<modonly>{DIGITS})\nprivate (?P<private>{DIGITS})\n"
    f"files (?P<files>{DIGITS})\nmissing (?P<missing>{DIGITS})\n")
TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
                  r"(?:\.[0-9]+)?(?:Z|\+00:00)")  # RFC 3339 in UTC


def is_time(v: Any) -> bool:
    match = TIME.fullmatch(v) if isinstance(v, str) else None
    if not match:
        return False
    year, month, day = map(int, match.groups())
    try:  # Python knows no year 0, which is a leap year as 2000 is
        datetime.date(year or 2000, month, day)
    except ValueError:
        return False
    return True


def parse_manifest(text: str) -> Row:
    """The pattern allows one spelling of each value, so nothing needs to be encoded again."""
    match = MANIFEST.fullmatch(text)
    demand(match, "manifest", "text is not canonical or not of version 1")
    m: Row = match.groupdict()
    for field, value in m.items():
        if value and field not in ("name", "created", "index", "base", "head", "hash"):
            demand(len(value) < 20 and int(value) < 2**63, "manifest", f"{field} is too large")
            m[field] = int(value)
    demand(is_time(m["created"]), "manifest", "time of creation")
    demand(m["head"] is None or m["head_size"] and len(unbase64(m["hash"])) == 32, "manifest",
           "tree head")
    m["payload"] = 2 * BLOCK + NOTE + padded(m["index_size"])
    demand(m["size"] <= 1 << 43 and m["index_size"] <= 8 << 30, "manifest", "sizes")
    demand(0 < m["index_size"] and m["payload"] + len(END) <= m["size"], "manifest", "sizes")
    return m


# Values of the index

STEERING = set("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
               "\u2066\u2067\u2068\u2069")  # direction and lines, beside control characters
IDENT = "(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
VERSION = (rf"v{DIGITS}\.{DIGITS}\.{DIGITS}(?:-{IDENT}(?:\.{IDENT})*)?(?:\+incompatible)?")
DOMAIN = r"(?=[^/]*\.)(?![.-])[a-z0-9.-]+(?<!\.)"
MODULE = DOMAIN + r"(?:/(?!\.)[A-Za-z0-9._~-]+(?<!\.))*"
# The same where capitals are spelled !a. A branch's .info file is named as the branch.
ESCAPED = DOMAIN + r"(?:/(?!\.)(?:[a-z0-9._~-]|![a-z])+(?<!\.))*"
QUERY = r"(?!\.)(?:[a-z0-9._~+-]|![a-z])+(?<!\.)"
TILE = (r"tile/8/(?:[0-9]|[1-5][0-9]|6[0-3])/(?:(?!x000)x[0-9]{3}/(?:x[0-9]{3}/)*)?[0-9]{3}"
        r"(?:\.p/(?:[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5]))?")


def text(v: Any) -> bool:
    """Text for people: newlines and tabs, but nothing else that steers a terminal."""
    return (type(v) is str and len(v.encode()) <= 65536 and STEERING.isdisjoint(v)
            and not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in v))


def matches(pattern: str) -> Check:
    compiled = re.compile(pattern)
    return lambda v: type(v) is str and compiled.fullmatch(v) is not None


def null_or(check: Check) -> Check:
    return lambda v: v is None or check(v)


def empty_or(check: Check) -> Check:
    return lambda v: v == "" or check(v)


integer: Check = lambda v: type(v) is int
number: Check = lambda v: type(v) is int and v >= 0
flag: Check = lambda v: type(v) is int and v in (0, 1)
hash32: Check = lambda v: type(v) is str and len(unbase64(v)) == 32
h1: Check = lambda v: type(v) is str and v[:3] == "h1:" and hash32(v[3:])
sha256: Check = lambda v: type(v) is bytes and len(v) == 32
name, version = matches("[!-~]+"), matches(VERSION)
SPDX = "[A-Za-z0-9.+-]+( AND [A-Za-z0-9.+-]+)*"
shown: Check = lambda v: (text(v) and not any(c in "\n\t\u034f\u2800" for c in v)
                          and not any(unicodedata.category(c) in ("Cf", "Zs") and c != " " for c in v))
COLUMNS: dict[str, dict[str, Check]] = {  # beside id
    "bundle": {"digest": null_or(matches("[0-9a-f]{64}")), "name": matches(NAME),
               "sequence": number, "payload": null_or(number)},
    "head": {"size": number, "hash": hash32, "note": text},
    "module": {"path": matches(MODULE), "private": flag, "deprecated": text,
               "latest": empty_or(version)},
    "version": {"module": integer, "version": version, "time": empty_or(is_time),
                "h1": empty_or(h1), "gomod_h1": h1, "record": null_or(number),
                "zip_size": null_or(number), "mod_size": number, "retracted": null_or(text),
                "license": null_or(matches(SPDX)), "origin": text},
    "fact": {"version": integer, "kind": matches("[a-z]{1,32}"), "file": lambda v: v != "" and shown(v),
             "files": lambda v: number(v) and 1 <= v <= 500 << 20, "detail": shown,
             "coverage": null_or(lambda v: type(v) is float and 0 <= v <= 100)},
    "file": {"path": name, "bundle": integer, "offset": number, "size": number, "sha256": sha256},
    "missing": {"path": name, "version": name, "what": matches("go.mod|info|zip|record|list"),
                "status": number, "reason": text, "chain": text, "allowed": flag},
    "query": {"path": name, "query": name, "version": name},
    "requirement": {"path": name, "version": empty_or(name), "requires": name, "wanted": name,
                    "indirect": flag},
}


# index.sqlite


class Index:
    """An SQLite file that its maker may have made to hurt us."""

    def __init__(self, path: str, version: int) -> None:
        self.left, self.end, self.version = SECONDS, 0.0, version
        uri = f"file:{urllib.parse.quote(path)}?mode=ro&immutable=1"
        self.db = sqlite3.connect(uri, uri=True, isolation_level=None)
        self.db.set_progress_handler(lambda: time.monotonic() > self.end, 10000)
        if hasattr(self.db, "setlimit"):  # Python 3.11
            self.db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 20)
        for pragma in "trusted_schema=OFF", "cell_size_check=ON", "query_only=ON", "mmap_size=0":
            self.ask(f"PRAGMA {pragma}")

    def ask(self, query: str) -> list[tuple]:
        self.end = time.monotonic() + self.left
        rows = self.db.execute(query).fetchall()
        self.left = self.end - time.monotonic()
        return rows

    def check_schema(self) -> None:
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT 100"
        model = sqlite3.connect(":memory:")
        model.executescript((INDEX / SCHEMAS[self.version]).read_text(encoding="utf-8"))
        want = sorted(model.execute(query), key=repr)
        model.close()
        demand(sorted(self.ask(query), key=repr) == want, "index", "schema")

    def table(self, name: str) -> list[Row]:
        """All rows in the order of id, with every value checked by itself. SQLite leaves out
        CHECK constraints when it opens a file read-only, so that its own check is not enough."""
        checks = {"id": integer} | COLUMNS[name]
        names = ["licence" if self.version == 1 and c == "license" else c for c in checks]
        rows = self.ask(f"SELECT {', '.join(names)} FROM {name} ORDER BY id")
        for row in rows:
            for (column, check), value in zip(checks.items(), row):
                demand(check(value), "index", f"{name} {row[0]}: {column} {value!r:.100}")
        return [dict(zip(checks, row)) for row in rows]

    def tables(self) -> dict[str, list[Row]]:
        try:
            self.check_schema()
            demand(self.ask("PRAGMA integrity_check(1)") == [("ok",)], "index", "integrity")
            return {name: self.table(name) if self.version >= 3 or name != "fact" else []
                    for name in COLUMNS}
        except (sqlite3.Error, UnicodeError, OverflowError, MemoryError) as e:
            raise Refused("index", f"SQLite: {e}") from e
        finally:
            self.db.close()


def check_first_bytes(b: bytes, size: int) -> int:
    """Returns the version of the schema."""
    demand(b[:16] == b"SQLite format 3\0", "index", "not an SQLite file")
    demand(b[16:20] == b"\x10\0\x01\x01", "index", "page size or journal mode")
    demand(int.from_bytes(b[28:32], "big") * PAGE == size, "index", "number of pages")
    demand(b[56:60] == b"\0\0\0\x01", "index", "encoding")
    version = int.from_bytes(b[60:64], "big")
    demand(version in SCHEMAS, "index", f"user_version {version}")
    demand(b[68:72] == b"modm", "index", "application_id")
    return version


def check_line(m: Row, bundles: list[Row]) -> None:
    demand(bundles, "index", "no bundles")
    *before, this = bundles
    demand((this["name"], this["sequence"], this["digest"], this["payload"])
           == (m["name"], m["sequence"], None, None), "index", "last bundle is another one")
    demand((before[-1]["digest"] if before else None) == m["base"], "index", "base")
    for b, after in zip(before, bundles[1:]):
        demand(b["digest"] and b["name"] == m["name"], "index", "earlier bundle")
        demand(b["payload"] and b["payload"] % BLOCK == 0, "index", "payload of an earlier bundle")
        demand(b["sequence"] < after["sequence"], "index", "sequences do not rise")


def check_heads(m: Row, heads: list[Row], files: dict[str, Row]) -> None:
    size = 0
    for h in heads:
        start = f"go.sum database tree\n{h['size']}\n{h['hash']}\n"
        demand(h["note"].startswith(start), "index", "note of a head")
        demand(size < h["size"], "index", "heads do not grow")
        size = h["size"]
    last = (size, heads[-1]["hash"]) if heads else (None, None)
    demand(last == (m["head_size"], m["hash"]), "index", "last head")
    if heads:
        latest = files.get(f"sumdb/{m['head']}/latest")
        note = hashlib.sha256(heads[-1]["note"].encode()).digest()
        demand(latest and latest["sha256"] == note, "index", "latest is not the last head")


def escape(path: str) -> str:
    """As GOPROXY paths spell capitals."""
    return re.sub("[A-Z]", lambda m: "!" + m[0].lower(), path)


def unescape(path: str) -> str:
    return re.sub("!([a-z])", lambda m: m[1].upper(), path)


def check_versions(m: Row, modules: dict[int, Row], versions: list[Row],
                   files: dict[str, Row]) -> None:
    demand({v["module"] for v in versions} == set(modules), "index", "modules and versions")
    for v in versions:
        mod, record = modules[v["module"]], v["record"]
        path = f"{escape(mod['path'])}/@v/{escape(v['version'])}"
        demand((record is None) == bool(mod["private"]), "index", f"{path}: record or private")
        demand((record or 0) < (m["head_size"] or 1), "index", f"{path}: record not in the tree")
        demand(v["h1"] or record is None and v["zip_size"] is None, "index", f"{path}: no h1")
        for suffix, size in (".mod", v["mod_size"]), (".zip", v["zip_size"]):
            file = files.get(path + suffix)
            demand((file["size"] if file else None) == size, "index", f"size of {path}{suffix}")


def check_files(m: Row, files: list[Row], bundles: list[Row]) -> list[Row]:
    """Returns the files of this tar in their order: README.txt first, the others sorted."""
    known = re.compile(
        r"review/(?:report\.(?:html|json)|sbom\.(?:cyclonedx|spdx)\.json|vulns\.openvex\.json"
        r"|provenance\.intoto\.jsonl)|"
        rf"README\.txt|self/[a-z0-9]+-[a-z0-9]+\.tar|sumdb/{re.escape(m['head'] or '/')}/"
        rf"(?:latest|supported|{TILE}|lookup/{ESCAPED}@(?P<lookup>{QUERY}))"
        r"|vulndb/(?:index/(?:db|modules|vulns)|ID/[A-Za-z0-9-]+)\.json"
        rf"|{ESCAPED}/@(?:latest|v/list|v/{QUERY}\.info|v/(?P<version>{QUERY})\.(?:mod|zip))")
    for f in files:
        match = known.fullmatch(f["path"])
        demand(match, "index", f"no file of a GOPROXY tree: {f['path']}")
        escaped = match["lookup"] or match["version"]
        demand(not escaped or version(unescape(escaped)), "index", f"version of {f['path']}")
    paths = [f["path"] for f in files]
    demand(paths == sorted(paths), "index", "files are not in the order of paths")
    demand([f["id"] for f in files] == list(range(1, len(files) + 1)), "index", "ids of files")
    ids = {b["id"] for b in bundles}
    for f in files:
        demand(f["bundle"] in ids, "index", f"{f['path']} is in no bundle")
        demand(BLOCK <= f["offset"] < 2**63 - f["size"], "index", f"offset of {f['path']}")
    here = [f for f in files if f["bundle"] == bundles[-1]["id"]]
    here.sort(key=lambda f: f["path"] != "README.txt")
    demand(here and here[0]["path"] == "README.txt", "index", "no README.txt")
    end = 0
    for f in here:
        start = end + len(tar_header(f["path"], f["size"]))
        demand(f["offset"] == start, "index", f"offset of {f['path']}")
        end = start + padded(f["size"])
    demand(m["payload"] + end + len(END) == m["size"], "index", "files do not tile the payload")
    return here


def check_index(path: str, version: int, m: Row) -> list[Row]:
    """Returns the files of this tar in their order."""
    t = Index(path, version).tables()
    versions, files = t["version"], {f["path"]: f for f in t["file"]}
    whole = sum(v["zip_size"] is not None for v in versions)
    counts = {"modules": len(t["module"]), "versions": whole, "modonly": len(versions) - whole,
              "private": sum(v["record"] is None for v in versions),
              "files": len(files), "missing": len(t["missing"])}
    for field, count in counts.items():
        demand(m[field] == count, "index", f"{count} {field}, not {m[field]}")
    check_line(m, t["bundle"])
    check_heads(m, t["head"], files)
    ids = {v["id"] for v in versions}
    for fact in t["fact"]:
        demand(fact["version"] in ids, "index", "fact of no version")
        demand(fact["coverage"] is None or fact["kind"] == "license", "index", "coverage of a fact")
        demand(fact["kind"] != "license" or empty_or(matches(SPDX))(fact["detail"]), "index", "SPDX")
    of = [fact["version"] for fact in t["fact"]]
    demand(all(of.count(v) <= 256 for v in set(of)), "index", "facts of a version")
    check_versions(m, {mod["id"]: mod for mod in t["module"]}, versions, files)
    return check_files(m, t["file"], t["bundle"])


# The order of belief


def check_bundle(f: BinaryIO, keys: Keys, require: int) -> None:
    start = f.read(2 * BLOCK + NOTE)
    demand(len(start) == 2 * BLOCK + NOTE and start.startswith(tar_header("MANIFEST", NOTE)),
           "tar", "does not begin like a bundle")
    signed, signers = open_note(start[BLOCK:-BLOCK].rstrip(b"\n") + b"\n", keys)
    demand(len(signers) >= require, "signature", f"{len(signers)} trusted keys signed it")
    m = parse_manifest(signed)
    demand(os.fstat(f.fileno()).st_size == m["size"], "tar", "size of the file")
    demand(start[-BLOCK:] == tar_header("index.sqlite", m["index_size"]), "tar", "second header")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "index.sqlite")
        with open(path, "w+b") as index:
            demand(copy(f, m["index_size"], index).hex() == m["index"], "index", "SHA-256")
            index.seek(0)
            version = check_first_bytes(index.read(100), m["index_size"])
        files = check_index(path, version, m)  # whole pages: the index has no padding
    check_payload(f, files)


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks modmirror bundles.")
    parser.add_argument("--require", type=int, default=1, metavar="N", help="trusted keys wanted")
    parser.add_argument("--trust", required=True, metavar="FILE", help="verifier keys, one a line")
    parser.add_argument("bundle", nargs="+")
    args = parser.parse_args()
    try:
        keys = read_keys(args.trust)
    except (OSError, ValueError) as e:
        parser.error(str(e))
    status = 0
    for bundle in args.bundle:
        try:
            with open(bundle, "rb") as f:
                check_bundle(f, keys, max(args.require, 1))
            print(os.path.basename(bundle), "ok")
        except Refused as e:  # the reason may quote the bundle: one line of plain ASCII
            kind, reason = e.args
            print(f"{os.path.basename(bundle)} {kind}: {ascii(reason)[1:-1]:.200}")
        except OSError as e:
            print(e, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
