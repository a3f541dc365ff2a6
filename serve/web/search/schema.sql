-- What a search looks at: made from the zips that a server carries, and made again when it is lost.

CREATE TABLE zip (
  id      INTEGER PRIMARY KEY,
  h1      TEXT NOT NULL UNIQUE,
  module  TEXT NOT NULL,
  version TEXT NOT NULL -- as people see it
);

CREATE TABLE package (
  id        INTEGER PRIMARY KEY,
  zip       INTEGER NOT NULL REFERENCES zip (id),
  path      TEXT NOT NULL, -- import path
  name      TEXT NOT NULL,
  last      TEXT NOT NULL, -- last element of the path that is no major version, in lower case
  synopsis  TEXT NOT NULL,
  license   TEXT NOT NULL,
  importers INTEGER NOT NULL DEFAULT 0, -- how many other modules import it
  weight    REAL NOT NULL DEFAULT 0, -- what its rank is without a query
  symbols   TEXT NOT NULL -- what it exports, with spaces between; on a second line the words of these names
);

CREATE INDEX package_zip ON package (zip);
CREATE INDEX package_path ON package (path);
CREATE INDEX package_last ON package (last, weight);

CREATE TABLE import (
  zip  INTEGER NOT NULL REFERENCES zip (id),
  path TEXT NOT NULL,
  PRIMARY KEY (path, zip)
) WITHOUT ROWID;

CREATE INDEX import_zip ON import (zip);

CREATE VIRTUAL TABLE words USING fts4 (path, name, synopsis, symbols, license, content="package", tokenize=unicode61);

CREATE VIRTUAL TABLE terms USING fts4aux(words);
