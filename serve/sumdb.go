package serve

import (
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"slices"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

// serveLookup answers a lookup of the checksum database. It composes the answer of the record in
// the index and the tree head that is served.
func (h *handler) serveLookup(x *exchange, path string, req modpath.Request) error {
	head := h.view.Head(req.DB)
	if head == nil {
		return h.notFound(x, req)
	}
	v, ok, err := h.view.Record(x.req.Context(), req.DB, req.Path, req.Version)
	if err != nil {
		return err
	}
	if !ok {
		have, carried, err := h.view.Lookup(x.req.Context(), req.Path, req.Version)
		if err != nil {
			return err
		}
		if !carried || have.Record != nil {
			return h.notFound(x, req)
		}
		text(x, http.StatusNotFound, "%s@%s is carried, outside the checksum database: "+
			"set GONOSUMDB=%[1]s (modmirror env prints all settings)", req.Path, req.Version)
		return nil
	}
	if !h.view.Proven(req.DB, *v.Record) {
		text(x, http.StatusNotFound, "%s@%s is carried, "+
			"and its record %d cannot be proven in the tree of %d that is served here\n"+
			"the next bundle of its line must be made with the catalogs of this store: modmirror extract --catalog STORE",
			v.Path, v.Version, *v.Record, head.N)
		return nil
	}
	rec := proof.Record{ID: *v.Record, H1: v.H1, GoModH1: v.GoModH1}
	rec.Mod.Path, rec.Mod.Version = v.Path, v.Version
	h.made(path, req, rec.Lookup(*head)).serve(x, x.req)
	return nil
}

// serveHead answers with the signed tree head that is served of a checksum database.
func (h *handler) serveHead(x *exchange, path string, req modpath.Request) error {
	head := h.view.Head(req.DB)
	if head == nil {
		return h.notFound(x, req)
	}
	h.made(path, req, head.Note).serve(x, x.req)
	return nil
}

// serveTile answers with a tile that is not a file of a bundle: it cuts the tile from a wider one
// of another line.
func (h *handler) serveTile(x *exchange, path string, req modpath.Request) error {
	data, err := h.view.Tile(x.req.Context(), req.DB, req.Tile)
	h.unknownTree(x, req, err == nil)
	if errors.Is(err, fs.ErrNotExist) {
		return h.notFound(x, req)
	}
	if err != nil {
		return err
	}
	h.made(path, req, data).serve(x, x.req)
	return nil
}

// unknownTree records that a client remembers a tree that the bundles do not know. A client asks
// for the tiles at the right edge of its tree, whose widths tell the size; the bundles have those
// of known trees as files (x/mod/sumdb/tlog, tile.go). A client that has these in its cache asks
// for full tiles that show how its tree continues, which tell the size but for its last eight bits.
func (h *handler) unknownTree(x *exchange, req modpath.Request, found bool) {
	head := h.view.Head(req.DB)
	if head == nil {
		return
	}
	t := req.Tile
	full := int64(1) << t.H
	size, exact := int64(0), false
	switch {
	case t.L == 0 && int64(t.W) < full:
		size, exact = t.N*full+int64(t.W), true
	case t.L == 0 && !found:
		size = t.N*full + full - 1
	case t.L == 1 && int64(t.W) < full && !found:
		size = (t.N*full + int64(t.W)) * full
	}
	if size > 0 && size != head.N {
		h.metrics.trees.Inc()
		h.wants.AddTree(req.DB, size, exact, x.origin().addr)
	}
}

// sumDB returns the name of the checksum database that clients are to use: Go's own when it is
// served, "" when none is.
func (h *handler) sumDB() string {
	served := slices.Sorted(maps.Keys(h.view.Served()))
	if len(served) == 0 {
		return ""
	}
	if h.view.Head("sum.golang.org") != nil {
		return "sum.golang.org"
	}
	return served[0]
}
