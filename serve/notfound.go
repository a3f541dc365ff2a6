package serve

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/internal/modpath"
)

// The go command prints this much of the text of an answer that is not 200
// (cmd/go/internal/web/api.go, maxErrorDetailLines and maxErrorDetailBytes).
const (
	maxDetailLines = 8
	maxDetailBytes = 648
)

// text answers with a status and words.
func text(w http.ResponseWriter, status int, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if len(msg) > maxDetailBytes {
		msg = msg[:maxDetailBytes-3] + "..."
	}
	h := w.Header()
	for _, name := range []string{"ETag", "Last-Modified", "Accept-Ranges", "Content-Length"} {
		h.Del(name)
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, msg)
}

// notFound answers 404 and says what is not carried, which versions are, and how to ask for it.
func (h *handler) notFound(x *exchange, req modpath.Request) error {
	h.miss(req)
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
			line("if this client has seen a newer database, remove $(go env GOPATH)/pkg/sumdb/%s/latest there", req.DB)
		}
		text(x, http.StatusNotFound, "%s", strings.TrimSuffix(b.String(), "\n"))
		return nil
	}
	what := req.Path
	if req.Version != "" {
		what += "@" + req.Version
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
		if n := nearest(carried, req.Version); n != "" {
			line("nearest carried: %s", n)
		}
		line("carried: %s", newestFirst(carried, 200))
	}
	want := req.Version
	if want == "" {
		want = "latest"
	}
	line("to have it carried, add this line to the list outside: %s@%s", req.Path, want)
	text(x, http.StatusNotFound, "%s", strings.TrimSuffix(b.String(), "\n"))
	return nil
}

// nearest returns the lowest version above want, which can stand in for it, else the highest below; "" when want is
// no version.
func nearest(versions []string, want string) (near string) {
	if !semver.IsValid(want) {
		return ""
	}
	for _, v := range versions {
		above, nearAbove := semver.Compare(v, want) > 0, semver.Compare(near, want) > 0
		switch lower := semver.Compare(v, near) < 0; {
		case near == "", above && !nearAbove, above && lower, !above && !nearAbove && !lower:
			near = v
		}
	}
	return near
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
