package serve

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
)

const (
	// missesLogged is how many requests for what is not carried are logged a second, after the
	// first missBurst. The metric counts all of them, and modmirror wants names all of them.
	missesLogged = 5
	missBurst    = 100
)

// lines are the lines of an answer of 404.
type lines struct{ strings.Builder }

// add adds a line.
func (l *lines) add(format string, args ...any) { fmt.Fprintf(l, format+"\n", args...) }

// notFound answers 404: what is not carried, which versions are, and how to have it carried. It
// records the request. An error that it returns was not answered yet.
func (h *handler) notFound(x *exchange, req modpath.Request) error {
	ctx := x.req.Context()
	inside := req.Path != "" && h.inside.covers(ctx, h.view, h.log, req.Path)
	if wanted, err := h.wanted(ctx, req); err != nil {
		return err
	} else if wanted && !inside {
		h.wants.Add(req, x.origin().addr)
	}
	h.metrics.misses.WithLabelValues(req.Kind.String()).Inc()
	if h.missLog.Allow() {
		h.log.Info("not carried", "path", x.path, "client", x.origin().addr, "name", x.name, "request", x.requestID())
	}
	var l lines
	var err error
	switch req.Kind {
	case modpath.Vuln:
		err = h.explainVuln(ctx, &l)
	case modpath.Self:
		h.explainSelf(&l, req)
	case modpath.SumSupported, modpath.SumLatest, modpath.SumTile:
		h.explainSumDB(&l, req)
	default:
		if inside {
			h.explainInside(&l, req)
		} else {
			err = h.explainModule(ctx, &l, req)
		}
	}
	if err == nil {
		text(x, http.StatusNotFound, "%s", strings.TrimSuffix(l.String(), "\n"))
	}
	return err
}

// explainVuln is about an entry of the vulnerability database.
func (h *handler) explainVuln(ctx context.Context, l *lines) error {
	n, err := h.view.Vulns(ctx)
	if n > 0 {
		l.add("the vulnerability database in %s has no such entry", h.view.Title())
	} else {
		l.add("no vulnerability database is in %s", h.view.Title())
		l.add("to have it carried, add a line to the list outside: vulndb")
	}
	return err
}

// explainSelf is about Go and modmirror for a platform.
func (h *handler) explainSelf(l *lines, req modpath.Request) {
	platform := modpath.PlatformOf(req.Name)
	l.add("no modmirror and Go for %s is in %s", platform, h.view.Title())
	l.add("to have them carried, add a line to the list outside: self %s", platform)
}

// explainSumDB is about a checksum database, its tree head, or a tile.
func (h *handler) explainSumDB(l *lines, req modpath.Request) {
	title, served := h.view.Title(), slices.Sorted(maps.Keys(h.view.Served()))
	switch head := h.view.Head(req.DB); {
	case len(served) == 0:
		l.add("no checksum database is in %s", title)
	case head == nil:
		l.add("the checksum database in %s is %s, not %s", title, strings.Join(served, ", "), req.DB)
	default:
		l.add("%s has checksum database %s up to record %d and not this tile", title, req.DB, head.N)
		if req.Kind == modpath.SumTile {
			explainTree(l, req, head.N)
		}
	}
}

// explainTree says why a client asks for a tile: it remembers a tree that the bundles, of so many
// records, do not know.
func explainTree(l *lines, req modpath.Request, records int64) {
	t := req.Tile
	below := int64(1) << (t.H * t.L)         // records under a hash of the tile
	least := (t.N<<t.H + int64(t.W)) * below // records in the tree
	most, size := least+below-1, fmt.Sprint(least)
	if below > 1 {
		size += " or some more"
	}
	if t.W == 1<<t.H { // the tile shows how a tree that ends in it, or behind it, continues
		least, most = t.N<<t.H*below, least
		size = fmt.Sprintf("about %d", least)
	}
	age := "another"
	switch {
	case least > records, t.W == 1<<t.H && most > records:
		age = "a newer"
	case most < records:
		age = "an older"
	}
	l.add("this client remembers %s tree, of %s records, online or from another bundle", age, size)
	l.add("to go on from there, carry what connects the two: modmirror wants prints the line; or")
	l.add("to forget it, remove $(go env GOPATH)/pkg/sumdb/%s/latest there", req.DB)
}

// subject returns the module, and version, of a request.
func subject(req modpath.Request) string {
	if req.Version == "" {
		return req.Path
	}
	return req.Path + "@" + req.Version
}

// explainInside is about a module of the network inside.
func (h *handler) explainInside(l *lines, req modpath.Request) {
	l.add("%s is a module of your own network: this server does not have it", subject(req))
	if h.inside.Also != nil {
		l.add("the proxies for those are in GOPROXY behind this one: run modmirror env again")
	} else {
		l.add("GONOPROXY has the go command fetch it from its own server: run modmirror env again")
	}
}

// explainModule is about a module or a version.
func (h *handler) explainModule(ctx context.Context, l *lines, req modpath.Request) error {
	l.add("%s is not in %s", subject(req), h.view.Title())
	for miss, err := range h.view.MissingFor(ctx, req.Path, req.Version) {
		if err != nil {
			return err
		}
		l.add("its %s could not be had when the bundle was made (status %d)", miss.What, miss.Status)
	}
	carried, modOnly, err := h.carried(ctx, req)
	if err != nil {
		return err
	}
	if modOnly {
		l.add("of this version only the go.mod is carried, for reading module graphs")
	}
	if len(carried) == 0 {
		l.add("no version of this module is carried whole")
	} else {
		if n := modpath.Nearest(carried, req.Version); n != "" {
			l.add("nearest carried: %s", n)
		}
		l.add("carried: %s", newestFirst(carried, 200))
	}
	advise(l, req, carried)
	return nil
}

// carried returns the versions of a module that are carried whole, of the toolchain those for the
// platform of the request. modOnly says that of the version of the request only the go.mod is
// carried.
func (h *handler) carried(ctx context.Context, req modpath.Request) (versions []string, modOnly bool, err error) {
	platform := ""
	if req.Path == modpath.Toolchain && req.Version != "" {
		platform = req.Version[max(0, strings.LastIndex(req.Version, ".")):]
	}
	for v, err := range h.view.Versions(ctx, req.Path) {
		switch {
		case err != nil:
			return nil, false, err
		case v.ZipSize == nil:
			modOnly = modOnly || v.Version == req.Version
		case strings.HasSuffix(v.Version, platform):
			versions = append(versions, v.Version)
		}
	}
	return versions, modOnly, nil
}

// wanted reports whether a request may be for something that is wanted. A go command that looks for
// a package also asks for the versions of the next major version of a module that it has.
func (h *handler) wanted(ctx context.Context, req modpath.Request) (bool, error) {
	if req.Kind != modpath.List && req.Kind != modpath.Latest {
		return true, nil
	}
	prefix, major, ok := module.SplitPathVersion(req.Path)
	if !ok || major == "" || strings.HasPrefix(major, ".") {
		return true, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(major, "/v"))
	if err != nil {
		return true, nil
	}
	lower := prefix
	if n > 2 {
		lower = fmt.Sprintf("%s/v%d", prefix, n-1)
	}
	for _, p := range []string{lower, prefix} {
		for v, err := range h.view.Versions(ctx, p) {
			if err != nil {
				return false, err
			}
			if v.ZipSize != nil {
				return false, nil
			}
		}
	}
	return true, nil
}

// advise adds the line for the list of a sync, or says what is wrong with the request.
func advise(l *lines, req modpath.Request, carried []string) {
	want := cmp.Or(req.Version, "latest")
	switch typed := strings.TrimRight(want, ",;:#.)]}'\"\\ "); {
	case req.Path == modpath.Toolchain && !released(want):
		l.add("no Go of that name was released: go1.21.0 asks for it where go.mod says go 1.N; a later Go asks for go1.N.0")
	case want != "latest" && modpath.CheckRevision(want) != nil:
		l.add("%q is no version, branch or commit that a list can name", want)
		if typed != want && slices.Contains(carried, typed) {
			l.add("did you mean %s@%s?", req.Path, typed)
		}
	case !modpath.CanBeModule(req.Path):
		l.add("no module has a path that short")
	default:
		l.add("to have it carried, add this line to the list outside: %s@%s", req.Path, want)
	}
}

// newestFirst joins versions, the newest first, to about max bytes, and counts the rest.
func newestFirst(versions []string, max int) string {
	list := make([]module.Version, len(versions))
	for i, v := range versions {
		list[i].Version = v
	}
	module.Sort(list)
	var b strings.Builder
	for i := len(list) - 1; i >= 0; i-- {
		v := list[i].Version
		if b.Len()+len(v) > max {
			fmt.Fprintf(&b, " and %d more", i+1)
			break
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v)
	}
	return b.String()
}
