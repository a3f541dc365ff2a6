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

// notFound answers 404 and says what is not carried, which versions are, and how to ask for it.
func (h *handler) notFound(x *exchange, req modpath.Request) error {
	inside := req.Path != "" && h.inside.covers(x.req.Context(), h.view, h.log, req.Path)
	if wanted, err := h.wanted(x.req.Context(), req); err != nil {
		return err
	} else if wanted && !inside {
		h.wants.Add(req, x.origin().addr)
	}
	h.metrics.misses.WithLabelValues(req.Kind.String()).Inc()
	if h.missLog.Allow() {
		h.log.Info("not carried", "path", x.path, "client", x.origin().addr, "name", x.name, "request", x.requestID())
	}
	title := h.view.Title()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	switch req.Kind {
	case modpath.Vuln:
		if n, err := h.view.Vulns(x.req.Context()); err != nil {
			return err
		} else if n == 0 {
			line("no vulnerability database is in %s", title)
			line("to have it carried, add a line to the list outside: vulndb")
		} else {
			line("the vulnerability database in %s has no such entry", title)
		}
		text(x, http.StatusNotFound, "%s", strings.TrimSuffix(b.String(), "\n"))
		return nil
	case modpath.Self:
		platform := strings.Replace(req.Name, "-", "/", 1)
		line("no modmirror and Go for %s is in %s", platform, title)
		line("to have them carried, add a line to the list outside: self %s", platform)
		text(x, http.StatusNotFound, "%s", strings.TrimSuffix(b.String(), "\n"))
		return nil
	case modpath.SumSupported, modpath.SumLatest, modpath.SumTile:
		served := slices.Sorted(maps.Keys(h.view.Served()))
		switch head := h.view.Head(req.DB); {
		case len(served) == 0:
			line("no checksum database is in %s", title)
		case head == nil:
			line("the checksum database in %s is %s, not %s", title, strings.Join(served, ", "), req.DB)
		default:
			line("%s has checksum database %s up to record %d and not this tile", title, req.DB, head.N)
			if req.Kind == modpath.SumTile {
				explainTree(line, req, head.N)
			}
		}
		text(x, http.StatusNotFound, "%s", strings.TrimSuffix(b.String(), "\n"))
		return nil
	}
	what := req.Path
	if req.Version != "" {
		what += "@" + req.Version
	}
	if inside {
		line("%s is a module of your own network: this server does not have it", what)
		if h.inside.Also != nil {
			line("the proxies for those are in GOPROXY behind this one: run modmirror env again")
		} else {
			line("GONOPROXY has the go command fetch it from its own server: run modmirror env again")
		}
		text(x, http.StatusNotFound, "%s", strings.TrimSuffix(b.String(), "\n"))
		return nil
	}
	line("%s is not in %s", what, title)
	for miss, err := range h.view.MissingFor(x.req.Context(), req.Path, req.Version) {
		if err != nil {
			return err
		}
		line("its %s could not be had when the bundle was made (status %d)", miss.What, miss.Status)
	}
	var carried []string
	for v, err := range h.view.Versions(x.req.Context(), req.Path) {
		if err != nil {
			return err
		}
		switch {
		case v.ZipSize != nil:
			carried = append(carried, v.Version)
		case v.Version == req.Version:
			line("of this version only the go.mod is carried, for reading module graphs")
		}
	}
	if req.Path == modpath.Toolchain && req.Version != "" { // one for the same platform
		platform := req.Version[max(0, strings.LastIndex(req.Version, ".")):]
		carried = slices.DeleteFunc(carried, func(v string) bool { return !strings.HasSuffix(v, platform) })
	}
	if len(carried) == 0 {
		line("no version of this module is carried whole")
	} else {
		if n := modpath.Nearest(carried, req.Version); n != "" {
			line("nearest carried: %s", n)
		}
		line("carried: %s", newestFirst(carried, 200))
	}
	h.advise(line, req, carried)
	text(x, http.StatusNotFound, "%s", strings.TrimSuffix(b.String(), "\n"))
	return nil
}

// explainTree says why a tile is asked for: a client remembers a tree that the bundle, of so many
// records, does not know.
func explainTree(line func(string, ...any), req modpath.Request, records int64) {
	t := req.Tile
	below := int64(1) << (t.H * t.L)         // records under a hash of the tile
	least := (t.N<<t.H + int64(t.W)) * below // that the tree has
	most, size := least+below-1, fmt.Sprint(least)
	if below > 1 {
		size += " or some more"
	}
	if t.W == 1<<t.H { // it shows how a tree goes on that ends in it, or behind it
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
	line("this client remembers %s tree, of %s records, online or from another bundle", age, size)
	line("to go on from there, carry what connects the two: modmirror wants prints the line; or")
	line("to forget it, remove $(go env GOPATH)/pkg/sumdb/%s/latest there", req.DB)
}

// wanted reports whether what was asked for may be wanted. A go command that looks for a package
// also asks which versions there are of a higher major of a module that it has.
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

// advise says how to have it carried, or what is wrong with what was asked for.
func (h *handler) advise(line func(string, ...any), req modpath.Request, carried []string) {
	want := cmp.Or(req.Version, "latest")
	switch typed := strings.TrimRight(want, ",;:#.)]}'\"\\ "); {
	case req.Path == modpath.Toolchain && !released(want):
		line("no Go of that name was released: go1.21.0 asks for it where go.mod says go 1.N; a later Go asks for go1.N.0")
	case want != "latest" && modpath.CheckRevision(want) != nil:
		line("%q is no version, branch or commit that a list can name", want)
		if typed != want && slices.Contains(carried, typed) {
			line("did you mean %s@%s?", req.Path, typed)
		}
	case !modpath.CanBeModule(req.Path):
		line("no module has a path that short")
	default:
		line("to have it carried, add this line to the list outside: %s@%s", req.Path, want)
	}
}

// newestFirst joins versions, the newest first, to at most max bytes.
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

const (
	// missesLogged is how many requests for what is not carried are logged a second, after missBurst of them: the metric counts all, and
	// modmirror wants names all.
	missesLogged = 5
	missBurst    = 100
)
