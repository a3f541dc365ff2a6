// Package modpath parses and prints the paths of the GOPROXY protocol.
//
// It holds the only parser of such paths: serve parses requests with it, mirror and bundle name
// files with it. A path has exactly one spelling: Parse refuses every path that String would not
// print. So two different requests never mean one file, and a path names nothing but a module, a
// version, a tile, a file of the vulnerability database or a review document.
//
// The protocol is described at https://go.dev/ref/mod#goproxy-protocol and, for the checksum
// database, at https://go.dev/design/25530-sumdb.
package modpath

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxLength is the longest path in bytes that Parse accepts. File systems bound module paths and
// versions; MaxLength leaves room for both.
const MaxLength = 2048

// TileHeight is the height of the tiles that checksum databases serve and the go command asks for
// (x/mod/sumdb.Client, default height).
const TileHeight = 8

// Toolchain is the module whose versions are Go toolchains, one for each release and platform
// (https://go.dev/ref/mod, GOTOOLCHAIN).
const Toolchain = "golang.org/toolchain"

// A Kind says what a path names.
type Kind int

// The kinds of paths.
const (
	Invalid      Kind = iota
	List              // MODULE/@v/list
	Info              // MODULE/@v/VERSION.info; VERSION may be a query such as a branch
	Mod               // MODULE/@v/VERSION.mod
	Zip               // MODULE/@v/VERSION.zip
	Latest            // MODULE/@latest
	SumSupported      // sumdb/DB/supported
	SumLatest         // sumdb/DB/latest
	SumLookup         // sumdb/DB/lookup/MODULE@VERSION
	SumTile           // sumdb/DB/tile/H/L/N[.p/W]
	Vuln              // vulndb/NAME: a file of the vulnerability database, or NAME.gz
	Self              // self/NAME.tar: modmirror and Go for the platform NAME, such as linux-amd64
	Review            // review/NAME: a document about the bundle, of ReviewNames
)

var kindNames = [...]string{"invalid", "list", "info", "mod", "zip", "latest", "supported", "head", "lookup", "tile", "vuln", "self", "review"}

// String returns the short name that logs and metrics print.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return "invalid"
	}
	return kindNames[k]
}

// A Request is a parsed path. Its Kind determines which other fields are set.
type Request struct {
	Kind    Kind
	Path    string    // module path, not escaped
	Version string    // module version or query, not escaped
	DB      string    // name of the checksum database
	Tile    tlog.Tile // a tile of height TileHeight
	Name    string    // of a file of the vulnerability database: index/….json or ID/….json; or a platform; or of a document
	Gzip    bool      // the path is NAME.gz
}

// reVuln matches the name of a file of a vulnerability database
// (https://go.dev/doc/security/vuln/database#api).
var reVuln = regexp.MustCompile(`^(index/(db|modules|vulns)|ID/GO-[0-9]{4}-[0-9]{4,8})\.json$`)

// ReviewFolder is the folder of the review documents.
const ReviewFolder = "review/"

// Names of review documents.
const (
	ReportHTML = "report.html"
	ReportJSON = "report.json"
	CycloneDX  = "sbom.cyclonedx.json"
	SPDX       = "sbom.spdx.json"
	OpenVEX    = "vulns.openvex.json"
	Provenance = "provenance.intoto.jsonl"
)

// ReviewNames lists the names of all review documents.
var ReviewNames = []string{ReportHTML, ReportJSON, CycloneDX, SPDX, OpenVEX, Provenance}

var reSelf = regexp.MustCompile(`^self/([a-z0-9]{1,20}-[a-z0-9]{1,20})\.tar$`)

var errNotCanonical = errors.New("not the canonical spelling")

// Parse parses p, a slash-separated path without a leading slash.
func Parse(p string) (Request, error) {
	r, err := parse(p)
	if err == nil && r.String() != p {
		err = errNotCanonical
	}
	if err != nil {
		return Request{}, fmt.Errorf("malformed GOPROXY path %.200q: %w", p, err)
	}
	return r, nil
}

// parse parses p, whose spelling may not be canonical.
func parse(p string) (r Request, err error) {
	if len(p) > MaxLength {
		return r, fmt.Errorf("longer than %d bytes", MaxLength)
	}
	if mod, file, ok := strings.Cut(p, "/@v/"); ok {
		return parseVersion(mod, file)
	}
	if name, ok := strings.CutPrefix(p, "vulndb/"); ok {
		r.Kind = Vuln
		if r.Name, r.Gzip = strings.CutSuffix(name, ".gz"); !reVuln.MatchString(r.Name) {
			return r, errors.New("no file of a vulnerability database")
		}
		return r, nil
	}
	if m := reSelf.FindStringSubmatch(p); m != nil {
		r.Kind, r.Name = Self, m[1]
		return r, nil
	}
	if name, ok := strings.CutPrefix(p, ReviewFolder); ok && slices.Contains(ReviewNames, name) {
		r.Kind, r.Name = Review, name
		return r, nil
	}
	if mod, ok := strings.CutSuffix(p, "/@latest"); ok {
		r.Kind = Latest
		r.Path, err = module.UnescapePath(mod)
		return r, err
	}
	if rest, ok := strings.CutPrefix(p, "sumdb/"); ok {
		return parseSumDB(rest)
	}
	return r, errors.New("names no module file and no checksum database")
}

// parseVersion parses the path mod/@v/file.
func parseVersion(mod, file string) (r Request, err error) {
	if r.Path, err = module.UnescapePath(mod); err != nil {
		return r, err
	}
	if file == "list" {
		r.Kind = List
		return r, nil
	}
	ext := path.Ext(file)
	switch ext {
	case ".info":
		r.Kind = Info
	case ".mod":
		r.Kind = Mod
	case ".zip":
		r.Kind = Zip
	default:
		return r, errors.New("neither list, .info, .mod nor .zip")
	}
	if r.Version, err = module.UnescapeVersion(strings.TrimSuffix(file, ext)); err != nil {
		return r, err
	}
	if r.Kind != Info {
		err = checkVersion(r.Path, r.Version)
	}
	return r, err
}

// parseSumDB parses the path sumdb/rest.
func parseSumDB(rest string) (r Request, err error) {
	if db, ok := strings.CutSuffix(rest, "/supported"); ok {
		r.Kind, r.DB = SumSupported, db
		return r, CheckDB(db)
	}
	if db, mv, ok := strings.Cut(rest, "/lookup/"); ok {
		r.Kind, r.DB = SumLookup, db
		mod, vers, ok := strings.Cut(mv, "@")
		if !ok {
			return r, errors.New("lookup without a version")
		}
		if r.Path, err = module.UnescapePath(mod); err != nil {
			return r, err
		}
		if r.Version, err = module.UnescapeVersion(vers); err != nil {
			return r, err
		}
		if err = checkVersion(r.Path, r.Version); err != nil {
			return r, err
		}
		return r, CheckDB(db)
	}
	if db, tile, ok := strings.Cut(rest, "/tile/"); ok {
		r.Kind, r.DB = SumTile, db
		if r.Tile, err = tlog.ParseTilePath("tile/" + tile); err != nil {
			return r, err
		}
		if r.Tile.H != TileHeight || r.Tile.L < 0 {
			return r, fmt.Errorf("not a hash tile of height %d", TileHeight)
		}
		return r, CheckDB(db)
	}
	if db, ok := strings.CutSuffix(rest, "/latest"); ok {
		r.Kind, r.DB = SumLatest, db
		return r, CheckDB(db)
	}
	return r, errors.New("unknown request to a checksum database")
}

// checkVersion checks that vers is canonical and that a module of this path can have it.
func checkVersion(path, vers string) error {
	if module.CanonicalVersion(vers) != vers {
		return fmt.Errorf("version %q is not canonical", vers)
	}
	return module.Check(path, vers)
}

// CheckDB checks the name of a checksum database: host[/path], as the go command wants it
// (modfetch/sumdb.go dbDial), in characters that are safe in every file name.
func CheckDB(name string) error {
	if err := module.CheckImportPath(name); err != nil || !strings.Contains(strings.SplitN(name, "/", 2)[0], ".") {
		return fmt.Errorf("bad name of a checksum database %q", name)
	}
	return nil
}

// String returns the path that r was parsed from, or "" when r names nothing.
func (r Request) String() string {
	switch r.Kind {
	case SumSupported:
		return "sumdb/" + r.DB + "/supported"
	case SumLatest:
		return "sumdb/" + r.DB + "/latest"
	case SumTile:
		return "sumdb/" + r.DB + "/" + r.Tile.Path()
	case Vuln:
		if r.Gzip {
			return "vulndb/" + r.Name + ".gz"
		}
		return "vulndb/" + r.Name
	case Self:
		return "self/" + r.Name + ".tar"
	case Review:
		return ReviewFolder + r.Name
	}
	mod, err := module.EscapePath(r.Path)
	if err != nil {
		return ""
	}
	switch r.Kind {
	case List:
		return mod + "/@v/list"
	case Latest:
		return mod + "/@latest"
	}
	vers, err := module.EscapeVersion(r.Version)
	if err != nil {
		return ""
	}
	switch r.Kind {
	case Info:
		return mod + "/@v/" + vers + ".info"
	case Mod:
		return mod + "/@v/" + vers + ".mod"
	case Zip:
		return mod + "/@v/" + vers + ".zip"
	case SumLookup:
		return "sumdb/" + r.DB + "/lookup/" + mod + "@" + vers
	}
	return ""
}

// Lookup returns the path of the answer of checksum database db about m, or "" when m has no
// escaped form. Below the URL of the database itself the path begins after "sumdb/"+db+"/".
func Lookup(db string, m module.Version) string {
	return Request{Kind: SumLookup, DB: db, Path: m.Path, Version: m.Version}.String()
}

// VulnFile returns the path of a file of the vulnerability database, such as index/db.json.
func VulnFile(name string) string { return Request{Kind: Vuln, Name: name}.String() }

// ReviewFile returns the path of the review document with a name.
func ReviewFile(name string) string { return Request{Kind: Review, Name: name}.String() }

// ListText sorts versions and returns the content of MODULE/@v/list: one version a line, lowest
// first.
func ListText(versions []string) []byte {
	semver.Sort(versions)
	var text []byte
	for _, v := range versions {
		text = append(append(text, v...), '\n')
	}
	return text
}

// Nearest returns the lowest version above want, which can replace it in a build, or else the
// highest version below. It returns "" when want is not a semantic version.
func Nearest(versions []string, want string) (near string) {
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

// IsListQuery reports whether the go command answers a query from the list of a module, rather than
// from the .info file of that name: latest, upgrade, a range, or the beginning of a version
// (cmd/go/internal/modload/query.go newQueryMatcher).
func IsListQuery(query string) bool {
	return query == "latest" || query == "upgrade" || strings.HasPrefix(query, "<") || strings.HasPrefix(query, ">") ||
		semver.IsValid(query) && strings.Count(query, ".") < 2
}

// CheckRevision checks that a proxy can be asked for the .info file of a version, a branch or a
// commit, and that a bundle can have a file of that name. It refuses all, none, patch and upgrade,
// which mean something else to go get (https://go.dev/ref/mod#version-queries).
func CheckRevision(query string) error {
	switch query {
	case "all", "none", "patch", "upgrade":
		return fmt.Errorf("%q is no version, branch or commit", query)
	}
	if v, err := module.EscapeVersion(query); err != nil || CheckFile(v) != nil {
		return fmt.Errorf("no proxy can be asked for %q, or no file be named so", query)
	}
	return nil
}

// reHosted matches the hosts on which a module is at least a whole repository, and the users of
// those hosts (cmd/go/internal/vcs/vcs.go vcsPaths).
var reHosted = regexp.MustCompile(`^(github\.com|bitbucket\.org|gitlab\.com)(/[^/]+)?$`)

// CanBeModule reports whether a module may have this path: the path is valid, and more than a known
// host or a user of one.
func CanBeModule(path string) bool {
	return module.CheckPath(path) == nil && !reHosted.MatchString(path)
}

// CheckFile checks that a file in a bundle may have this name: a relative, slash-separated path of
// plain ASCII elements that mean the same to every file system and shell that modmirror meets.
func CheckFile(name string) error {
	if name == "" || len(name) > MaxLength {
		return fmt.Errorf("bad file name %.200q: empty or too long", name)
	}
	for elem := range strings.SplitSeq(name, "/") {
		if elem == "" || elem == "." || elem == ".." {
			return fmt.Errorf("bad file name %q: element %q", name, elem)
		}
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("/!+-.@_~", c) >= 0:
		default:
			return fmt.Errorf("bad file name %q: character %q", name, c)
		}
	}
	return nil
}

// PackageName guesses the name of a package by its import path: the last element that is no major
// version, without "go-" before and what follows a dot or hyphen.
func PackageName(importPath string) string {
	prefix, _, ok := module.SplitPathVersion(importPath)
	base := path.Base(importPath)
	if ok {
		base = path.Base(prefix)
	}
	base, _, _ = strings.Cut(strings.TrimPrefix(base, "go-"), ".")
	base, _, _ = strings.Cut(base, "-")
	return base
}
