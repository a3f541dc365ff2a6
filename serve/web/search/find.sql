-- ?1 is the MATCH, ?2 the query as it was typed, ?3 the part of it that may be the name of a package. The best ids are chosen
-- first, by an index, and the texts of these alone are read: symbols are long.
WITH best AS (
  SELECT p.id AS id, p.weight + (p.name = ?3 OR p.last = ?3) * (20 + min(p.importers, 50)) AS score
  FROM package p INDEXED BY package_rank
  WHERE p.id IN (SELECT docid FROM words WHERE words MATCH ?1)
  ORDER BY 2 DESC
  LIMIT ?4
)
SELECT p.path, p.name, z.module, z.version, p.synopsis, p.license, p.importers, p.symbols
FROM best JOIN package p ON p.id = best.id JOIN zip z ON z.id = p.zip
ORDER BY p.path = ?2 DESC, best.score + (instr(p.path, ?3) > 0) * 2 DESC, p.path
