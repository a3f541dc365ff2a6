-- The catalog of a modmirror bundle, in version 2 of the schema. Ask it anything: sqlite3 index.sqlite
-- Times are RFC 3339 in UTC, sizes are bytes, hashes of contents are SHA-256, h1 hashes are those of go.sum.

CREATE TABLE bundle ( -- the bundles of the line, oldest first; this bundle is the last one
  id       INTEGER PRIMARY KEY,
  digest   TEXT CHECK (typeof(digest) IN ('text', 'null')), -- the bundle's id; NULL for this bundle, which cannot hold its own hash
  name     TEXT NOT NULL CHECK (typeof(name) = 'text'),
  sequence INTEGER NOT NULL CHECK (typeof(sequence) = 'integer'),
  payload  INTEGER CHECK (typeof(payload) IN ('integer', 'null')) -- where file offsets count from; NULL for this bundle: the end of its index.sqlite
);

CREATE TABLE head ( -- signed tree heads of the checksum database, smallest first: all records are proven under the last one, and that it continues each of the others
  id   INTEGER PRIMARY KEY,
  size INTEGER NOT NULL UNIQUE CHECK (typeof(size) = 'integer'), -- records in the tree
  hash TEXT NOT NULL CHECK (typeof(hash) = 'text'), -- of the tree, in base64
  note TEXT NOT NULL CHECK (typeof(note) = 'text') -- the signed note that says so
);

CREATE TABLE module (
  id         INTEGER PRIMARY KEY,
  path       TEXT NOT NULL UNIQUE CHECK (typeof(path) = 'text'),
  private    INTEGER NOT NULL CHECK (private IN (0, 1)), -- 1: outside the checksum database; only the bundle's signature vouches for it
  deprecated TEXT NOT NULL CHECK (typeof(deprecated) = 'text'), -- message, '' when it is not; that of latest, as are retractions
  latest     TEXT NOT NULL CHECK (typeof(latest) = 'text') -- newest version that the upstream had, carried or not; '' when it did not say
);

CREATE TABLE version (
  id        INTEGER PRIMARY KEY,
  module    INTEGER NOT NULL REFERENCES module (id),
  version   TEXT NOT NULL CHECK (typeof(version) = 'text'),
  time      TEXT NOT NULL CHECK (typeof(time) = 'text'), -- commit time, '' when unknown
  h1        TEXT NOT NULL CHECK (typeof(h1) = 'text'), -- of the zip; '' for a private version of which only the go.mod is carried
  gomod_h1  TEXT NOT NULL CHECK (typeof(gomod_h1) = 'text'),
  record    INTEGER CHECK (typeof(record) IN ('integer', 'null')), -- number in the checksum database; NULL when outside of it
  zip_size  INTEGER CHECK (typeof(zip_size) IN ('integer', 'null')), -- NULL: only .mod and .info are carried
  mod_size  INTEGER NOT NULL CHECK (typeof(mod_size) = 'integer'),
  retracted TEXT CHECK (typeof(retracted) IN ('text', 'null')), -- reason, perhaps ''; NULL when it is not
  license   TEXT CHECK (typeof(license) IN ('text', 'null')), -- SPDX expression; NULL when nobody looked
  origin    TEXT NOT NULL CHECK (typeof(origin) = 'text'), -- JSON of the .info file's Origin, '' without one
  UNIQUE (module, version)
);

CREATE TABLE file ( -- every file of the payload; in a line of deltas, of all its bundles
  id     INTEGER PRIMARY KEY, -- 1, 2, … in the order of paths
  path   TEXT NOT NULL UNIQUE CHECK (typeof(path) = 'text'),
  bundle INTEGER NOT NULL REFERENCES bundle (id), -- where it was carried; in a store it may be elsewhere, and its hash counts
  offset INTEGER NOT NULL CHECK (typeof(offset) = 'integer'), -- of the file's first byte
  size   INTEGER NOT NULL CHECK (typeof(size) = 'integer'),
  sha256 BLOB NOT NULL CHECK (typeof(sha256) = 'blob' AND length(sha256) = 32),
  UNIQUE (bundle, offset)
);

CREATE TABLE missing ( -- what belongs to the closure and could not be had
  id      INTEGER PRIMARY KEY,
  path    TEXT NOT NULL CHECK (typeof(path) = 'text'),
  version TEXT NOT NULL CHECK (typeof(version) = 'text'),
  what    TEXT NOT NULL CHECK (typeof(what) = 'text'), -- go.mod, info, zip, record or list
  status  INTEGER NOT NULL CHECK (typeof(status) = 'integer'), -- HTTP status of the refusal
  reason  TEXT NOT NULL CHECK (typeof(reason) = 'text'),
  chain   TEXT NOT NULL CHECK (typeof(chain) = 'text'), -- the requirements that bring it in, with ' → ' between them
  allowed INTEGER NOT NULL CHECK (allowed IN (0, 1)), -- by a missing-ok line
  UNIQUE (path, version, what)
);

CREATE TABLE query ( -- questions that were resolved when the bundle was made
  id      INTEGER PRIMARY KEY,
  path    TEXT NOT NULL CHECK (typeof(path) = 'text'),
  query   TEXT NOT NULL CHECK (typeof(query) = 'text'), -- latest, a branch, a commit
  version TEXT NOT NULL CHECK (typeof(version) = 'text'),
  UNIQUE (path, query)
);

CREATE TABLE requirement ( -- the module graph as its go.mod files say it; a project has version ''
  id       INTEGER PRIMARY KEY,
  path     TEXT NOT NULL CHECK (typeof(path) = 'text'),
  version  TEXT NOT NULL CHECK (typeof(version) = 'text'),
  requires TEXT NOT NULL CHECK (typeof(requires) = 'text'),
  wanted   TEXT NOT NULL CHECK (typeof(wanted) = 'text'), -- the version in the require line; the build list may have a higher one
  indirect INTEGER NOT NULL CHECK (indirect IN (0, 1)),
  UNIQUE (path, version, requires, wanted)
);
