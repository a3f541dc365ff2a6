package serve

import (
	"encoding/hex"
	"net/http"
	"strconv"

	"github.com/modmirror/modmirror/internal/modpath"
)

// etag returns the strong ETag of a body.
func etag(sum [32]byte) string { return `"` + hex.EncodeToString(sum[:]) + `"` }

// contentType returns the Content-Type of the answer to a request.
func contentType(r modpath.Request) string {
	if r.Gzip {
		return "application/gzip"
	}
	switch r.Kind {
	case modpath.Info, modpath.Latest, modpath.Vuln:
		return "application/json"
	case modpath.Zip:
		return "application/zip"
	case modpath.Self:
		return "application/x-tar"
	case modpath.SumTile:
		return "application/octet-stream"
	case modpath.Review:
		if r.Name == modpath.ReportHTML {
			return "text/html; charset=utf-8"
		}
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

// headerValues are an entry's response headers in the form of net/http, each a slice of one element
// of text. They are made once: sending a small file takes some microseconds, and making them would
// take one.
type headerValues struct {
	contentType, etag, control, modified, length []string

	text [5]string
}

var (
	acceptBytes = []string{"bytes"}
	noSniff     = []string{"nosniff"}
	styleOnly   = []string{"default-src 'none'; style-src 'unsafe-inline'"}
	stylePaper  = []string{styleOnly[0] + "; sandbox; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"}
)

// headers sets the response headers, under their canonical names.
func (e *entry) headers(w http.ResponseWriter) {
	e.once.Do(func() {
		v := &e.values
		v.text = [...]string{e.contentType, e.etag, e.control, strconv.Itoa(len(e.data)), ""}
		v.contentType, v.etag, v.control, v.length = v.text[0:1:1], v.text[1:2:2], v.text[2:3:3], v.text[3:4:4]
		if !e.modified.IsZero() {
			v.text[4] = e.modified.UTC().Format(http.TimeFormat)
			v.modified = v.text[4:5:5]
		}
	})
	h := w.Header()
	h["Content-Type"], h["Etag"], h["Cache-Control"] = e.values.contentType, e.values.etag, e.values.control
	h["X-Content-Type-Options"] = noSniff
	if e.kind == kind(modpath.Review) { // made outside, of texts from everywhere
		h["Content-Security-Policy"] = stylePaper
	}
	if e.values.modified != nil {
		h["Last-Modified"] = e.values.modified
	}
}

// The values of Cache-Control: immutable for a body that never changes under its name, brief for
// one that a new bundle may change.
const (
	immutable = "public, max-age=31536000, immutable"
	brief     = "public, max-age=60"
)

// cacheControl returns the Cache-Control of a file. fixed says that it is named by a version, and
// not by a query such as a branch, for which another bundle may have another answer.
func cacheControl(k modpath.Kind, fixed bool) string {
	switch k {
	case modpath.Info, modpath.Mod, modpath.Zip:
		if fixed {
			return immutable
		}
	case modpath.SumTile:
		return immutable
	}
	return brief
}
