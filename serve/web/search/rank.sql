-- How many modules import each package, and what its rank is without a query: used much, short, and not internal.
UPDATE package SET importers = (
  SELECT count(DISTINCT z.module) FROM import i JOIN zip z ON z.id = i.zip
  WHERE i.path = package.path AND i.zip <> package.zip
);
UPDATE package SET weight = min(importers, 400) * 0.05
  - (instr('/' || path || '/', '/internal/') > 0) * 20
  - length(path) * 0.02;
