package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	goversion "go/version"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
	"github.com/modmirror/modmirror/serve"
)

// A check is what doctor found out about a client's settings.
type check struct {
	What string `json:"what"`          // such as GOFLAGS
	OK   bool   `json:"ok"`            //
	Says string `json:"says"`          // what is the matter, or that nothing is
	Fix  string `json:"fix,omitempty"` // a command
}

// checkClient holds the go command's settings here against a server.
func checkClient(ctx context.Context, e *env, server string, asJSON bool) error {
	base, err := serverURL(server)
	if err != nil {
		return err
	}
	var checks []check
	isOld := false
	client, err := serverClient(ctx, base)
	if err != nil {
		return err
	}
	settings, err := askServer(ctx, client, base)
	if err != nil {
		layer, advice := upstream.Diagnose(err)
		if up, ok := errors.AsType[*upstream.Error](err); ok {
			if path, below := strings.CutPrefix(up.Text, "this server is below "); below {
				advice = "ask there: modmirror doctor --proxy " + base + path
			}
		}
		checks = append(checks, check{"server", false, fmt.Sprintf("%s: %v", layer, err), advice})
	} else {
		checks = append(checks, check{"server", true, fmt.Sprintf("bundle %s of %s", settings.Bundle, settings.Created), ""})
		goEnv, err := clientGoEnv(ctx)
		if err != nil {
			return err
		}
		isOld = goEnv.before113()
		checks = append(checks, goEnv.against(base, settings)...)
		checks = append(checks, insideHosts(ctx, settings)...)
		if settings.SumDB != "" && !goEnv.before113() {
			checks = append(checks, goEnv.rememberedHead(ctx, client, base, settings.SumDB))
		}
	}
	bad := slices.ContainsFunc(checks, func(c check) bool { return !c.OK })
	if asJSON {
		if err := writeJSON(e.stdout, checks); err != nil {
			return err
		}
	} else {
		for _, c := range checks {
			word := "ok "
			if !c.OK {
				word = "BAD"
			}
			fmt.Fprintf(e.stdout, "%s  %s: %s\n", word, c.What, oneLine(errors.New(c.Says)))
			if c.Fix != "" {
				fmt.Fprintf(e.stdout, "     hint: %s\n", c.Fix)
			}
		}
	}
	if bad {
		if !asJSON && isOld {
			e.hint(`eval "$(modmirror env %s)" sets all of them for this shell, and has to be run in each: this Go has no "go env -w"`, base)
		} else if !asJSON {
			e.hint(`eval "$(modmirror env %s)" sets all of them for this shell; modmirror env --shell go %[1]s prints a command that lasts`, base)
		}
		return errFailed
	}
	return nil
}

// clientEnv is what go env says on a client.
type clientEnv struct {
	GOPROXY, GONOPROXY, GOSUMDB, GONOSUMDB, GOPRIVATE, GOFLAGS, GOPATH, GOVERSION, GOTOOLCHAIN string
}

func clientGoEnv(ctx context.Context) (c clientEnv, err error) {
	out, err := exec.CommandContext(ctx, "go", "env", "-json", "GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOFLAGS", "GOPATH", "GOVERSION", "GOTOOLCHAIN").Output()
	if err == nil {
		err = json.Unmarshal(out, &c)
	}
	if err != nil {
		return c, fmt.Errorf("asking go env: %w", err)
	}
	if c.GOVERSION == "" { // go env has it since go 1.16
		out, err := exec.CommandContext(ctx, "go", "version").Output()
		if f := strings.Fields(string(out)); err == nil && len(f) > 2 {
			c.GOVERSION = f[2]
		}
	}
	return c, nil
}

// before113 reports whether the go command is of before Go 1.13: it has no checksum database, no go
// env -w, and one GOPROXY.
func (c clientEnv) before113() bool {
	return goversion.IsValid(c.GOVERSION) && goversion.Compare(c.GOVERSION, "go1.13") < 0
}

// set returns the command that makes a setting for good, or for this shell where there is no other.
func (c clientEnv) set(name, value string) string {
	if c.before113() {
		return fmt.Sprintf("export %s='%s'", name, value)
	}
	return fmt.Sprintf("go env -w '%s=%s'", name, value)
}

// against holds the settings against a server.
func (c clientEnv) against(base string, s serve.Settings) (checks []check) {
	add := func(what string, bad bool, says, fix string) {
		if bad {
			checks = append(checks, check{what, false, says, fix})
		} else {
			checks = append(checks, check{what, true, "as it should be", ""})
		}
	}
	want := make(map[string]string)
	for _, v := range s.Vars(base, c.GOPRIVATE == "") {
		want[v.Name] = v.Value
	}
	entries := strings.FieldsFunc(c.GOPROXY, func(r rune) bool { return r == ',' || r == '|' })
	proxies := strings.Split(want["GOPROXY"], ",")
	others := slices.DeleteFunc(slices.Clone(entries), func(p string) bool { return slices.Contains(proxies, strings.TrimSuffix(p, "/")) })
	lacking := slices.DeleteFunc(slices.Clone(s.Also), func(p string) bool { return slices.Contains(entries, p) })
	fix := c.set("GOPROXY", want["GOPROXY"])
	switch {
	case len(entries) == 0 || strings.TrimSuffix(entries[0], "/") != base:
		add("GOPROXY", true, "is not this server, but "+cmp.Or(withoutUsers(entries), "empty"), fix)
	case slices.Contains(entries, "direct"):
		add("GOPROXY", true, "ends in direct: what is not carried is looked for in a network that is not there, and hangs", fix)
	case len(lacking) > 0 && !c.before113():
		add("GOPROXY", true, fmt.Sprintf("lacks %s, which has modules of your own network", withoutUsers(lacking)), fix)
	default:
		add("GOPROXY", len(others) > 0, fmt.Sprintf("is %s: others are asked besides this server", withoutUsers(entries)), fix)
	}
	if c.before113() {
		add("GOSUMDB", false, "", "")
		checks[len(checks)-1].Says = c.GOVERSION + " has no checksum database, GONOPROXY and GONOSUMDB: it compares with go.sum alone"
	} else {
		checks = append(checks, c.againstPatterns(s, want)...)
	}
	add("GOFLAGS", strings.Contains(c.GOFLAGS, "-mod=vendor"), "has -mod=vendor: go commands read vendor folders and never ask the server", c.set("GOFLAGS", "")+" (and look at the environment)")
	if req, err := http.NewRequest("GET", base, nil); err == nil {
		way, _ := http.ProxyFromEnvironment(req)
		add("HTTP_PROXY", way != nil, fmt.Sprintf("requests to the server go through %s", upstream.Redact(fmt.Sprint(way))), "export NO_PROXY="+req.URL.Hostname())
	}
	for i, k := range checks {
		if os.Getenv(k.What) != "" && !k.OK && strings.HasPrefix(k.Fix, "go env -w ") {
			checks[i].Fix += fmt.Sprintf(", and take %s out of the environment, which goes before it", k.What)
		}
	}
	return checks
}

// againstPatterns holds what a go command since 1.13 knows of the checksum database, and of what
// goes round proxies, against a server.
func (c clientEnv) againstPatterns(s serve.Settings, want map[string]string) (checks []check) {
	add := func(what string, bad bool, says, fix string) {
		if bad {
			checks = append(checks, check{what, false, says, fix})
		} else {
			checks = append(checks, check{what, true, "as it should be", ""})
		}
	}
	set := func(name string) string { return c.set(name, want[name]) }
	for _, b := range badPatterns(c.GOPRIVATE, c.GONOPROXY, c.GONOSUMDB) {
		checks = append(checks, check{b.setting, false, fmt.Sprintf("has %q, which matches nothing: %v", b.pattern, b.err), set(b.setting)})
	}
	direct := modpath.Patterns(c.GONOPROXY)
	if c.GONOPROXY == "none" {
		direct = nil
	}
	inside := slices.DeleteFunc(modpath.Patterns(want["GONOPROXY"]), func(p string) bool { return p == "none" })
	past := slices.DeleteFunc(slices.Clone(direct), func(p string) bool { return slices.Contains(inside, p) })
	missing := slices.DeleteFunc(slices.Clone(inside), func(p string) bool { return slices.Contains(direct, p) })
	switch {
	case len(past) > 0:
		add("GONOPROXY", true, fmt.Sprintf("is %q (GOPRIVATE is its default): such modules are fetched past the server, from a network that is not there", c.GONOPROXY), set("GONOPROXY"))
	default:
		add("GONOPROXY", len(missing) > 0, fmt.Sprintf("lacks %s: modules of your own network, which this server does not have", strings.Join(missing, ", ")), set("GONOPROXY"))
	}
	switch {
	case s.SumDB == "":
		// It is not asked when every module that is carried is private, and known to be.
		private := !slices.ContainsFunc(s.Private, func(p string) bool { return !module.MatchPrefixPatterns(c.GONOSUMDB, p) })
		add("GOSUMDB", c.GOSUMDB != "off" && !private, "the bundle carries no checksum database, and the go command will look for one", c.set("GOSUMDB", "off"))
	case c.GOSUMDB == "off":
		add("GOSUMDB", true, "is off: nothing checks what a new module is, although the bundle carries the proofs", c.set("GOSUMDB", s.SumDB))
	default:
		db, err := proof.ParseGOSUMDB(c.GOSUMDB)
		add("GOSUMDB", err != nil || db.Name != s.SumDB || db.URL != "", fmt.Sprintf("is %q, the bundle carries %s", c.GOSUMDB, s.SumDB), c.set("GOSUMDB", s.SumDB))
	}
	patterns := modpath.Patterns(c.GONOSUMDB)
	covers := func(pattern string) bool { // a private module that is carried
		return slices.ContainsFunc(s.Private, func(p string) bool { return module.MatchPrefixPatterns(pattern, p) })
	}
	wide := slices.DeleteFunc(slices.Clone(patterns), func(p string) bool {
		return slices.Contains(s.Inside, p) || modpath.CheckPattern(p) != nil || covers(p) && !tooWide(p)
	})
	lacks := slices.DeleteFunc(slices.Clone(s.Private), func(p string) bool { return module.MatchPrefixPatterns(c.GONOSUMDB, p) })
	for _, p := range s.Inside {
		if !slices.Contains(patterns, p) {
			lacks = append(lacks, p)
		}
	}
	switch {
	case s.SumDB != "" && len(lacks) > 0:
		add("GONOSUMDB", true, fmt.Sprintf("lacks %s, which the checksum database cannot know", strings.Join(lacks[:min(3, len(lacks))], ", ")), set("GONOSUMDB"))
	default:
		add("GONOSUMDB", s.SumDB != "" && len(wide) > 0, fmt.Sprintf("has %s: wider than the bundle's private modules, and whatever is under it goes unchecked", strings.Join(wide, ", ")), set("GONOSUMDB"))
	}
	return checks
}

// insideTimeout is how long a server of the network inside may take to answer.
const insideTimeout = 3 * time.Second

// insideHosts asks the servers of modules of the network inside whether they answer: the proxies
// that have them or, without any, the hosts that patterns name whole, at the ports of HTTPS, SSH
// and HTTP.
func insideHosts(ctx context.Context, s serve.Settings) (checks []check) {
	ctx, cancel := context.WithTimeout(ctx, insideTimeout)
	defer cancel()
	for _, u := range s.Also {
		what := "proxy " + upstream.Redact(u)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
		if err == nil {
			var resp *http.Response
			if resp, err = http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
		}
		if err != nil {
			checks = append(checks, check{what, false, fmt.Sprintf("which has modules of your own network, does not answer: %v", err), "ask who runs it, or who runs serve --also"})
		} else {
			checks = append(checks, check{what, true, "answers", ""})
		}
	}
	if len(s.Also) > 0 {
		return checks
	}
	seen := make(map[string]bool)
	for _, p := range s.Inside {
		host, _, _ := strings.Cut(p, "/")
		if strings.ContainsAny(host, "*?[") || seen[host] {
			continue
		}
		seen[host] = true
		if err := reachable(ctx, host); err != nil {
			checks = append(checks, check{host, false, fmt.Sprintf("has modules of your own network, and does not answer at port 443, 22 or 80: %v", err), "is it in reach from here? Such modules are fetched from it directly"})
		} else {
			checks = append(checks, check{host, true, "answers", ""})
		}
	}
	return checks
}

// reachable returns nil when a host accepts a connection at the port of HTTPS, SSH or HTTP, else
// the error of the first.
func reachable(ctx context.Context, host string) error {
	ports := []string{"443", "22", "80"}
	results := make(chan error, len(ports))
	for _, port := range ports {
		go func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
			if err == nil {
				conn.Close()
			}
			results <- err
		}()
	}
	var first error
	for range ports {
		err := <-results
		if err == nil {
			return nil
		}
		first = cmp.Or(first, err)
	}
	return first
}

// withoutUsers joins the entries of a GOPROXY value without names and passwords.
func withoutUsers(entries []string) string {
	list := make([]string, len(entries))
	for i, s := range entries {
		list[i] = upstream.Redact(s)
	}
	return strings.Join(list, ",")
}

// tooWide reports whether a pattern is for whole top-level domains or for everything.
func tooWide(pattern string) bool {
	host, _, _ := strings.Cut(pattern, "/")
	i := strings.LastIndex(host, "*")
	return i >= 0 && strings.Count(host[i:], ".") < 2
}

// rememberedHead asks whether the go command, which remembers the newest head of the checksum database that it saw, will accept the
// server's: it makes the proofs that the go command will make.
func (c clientEnv) rememberedHead(ctx context.Context, client *upstream.Client, base, name string) check {
	what := "remembered head of " + name
	path, _, _ := strings.Cut(c.GOPATH, string(os.PathListSeparator))
	file := filepath.Join(path, "pkg", "sumdb", filepath.FromSlash(name), "latest")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return check{what, true, "none, so this server's will be", ""}
	}
	forget := "rm " + file
	carry := func(size int64) string {
		return fmt.Sprintf("%s; or have what connects the two carried, with a line in the list outside: head %s %d", forget, name, size)
	}
	fail := func(err error, fix string) check {
		return check{what, false, err.Error(), fix}
	}
	// What does not fit together may be an attack, and the file is what shows it.
	var old proof.Head
	failed := func(err error, lacking string) check {
		switch {
		case errors.Is(err, proof.ErrMismatch):
			return fail(err, "keep "+file+" and show it to who makes the bundles: one of two histories of the checksum database is forged")
		case upstream.IsNotFound(err):
			return fail(fmt.Errorf("%s: %w", lacking, err), carry(old.N))
		}
		return fail(err, "")
	}
	if err != nil {
		return fail(err, "")
	}
	db, err := proof.ParseGOSUMDB(c.GOSUMDB)
	if err != nil || db == nil || db.Name != name {
		return check{what, true, "not asked, since GOSUMDB is another one", ""}
	}
	old, err = db.ParseHead(data)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", file, err), "keep it, and show it to who makes the bundles: it is signed by another key")
	}
	tiles := &serverTiles{ctx: ctx, client: client, db: base + "/sumdb/" + name + "/"}
	if data, err = tiles.get("latest"); err != nil {
		return fail(err, "")
	}
	now, err := db.ParseHead(data)
	if err != nil {
		return failed(err, "")
	}
	if old.N > now.N {
		return fail(fmt.Errorf("the go command here has seen record %d, online or from a newer bundle; the bundle ends at %d, and go commands will fail with \"checking tree#%d\"", old.N, now.N, old.N), carry(old.N))
	}
	if err := (&proof.Prover{Head: old, Source: tiles}).Edge(); err != nil {
		return failed(err, fmt.Sprintf("the bundle lacks what go commands need to go on from record %d, which they have seen", old.N))
	}
	if err := (&proof.Prover{Head: now, Source: tiles}).Extends(old); err != nil {
		return failed(err, fmt.Sprintf("the bundle lacks what shows that its records to %d go on from %d", now.N, old.N))
	}
	return check{what, true, fmt.Sprintf("record %d, and the server's %d goes on from there", old.N, now.N), ""}
}

// serverTiles reads tiles from a server.
type serverTiles struct {
	ctx    context.Context
	client *upstream.Client
	db     string // URL of the checksum database, with a slash behind it
}

func (s *serverTiles) get(elem string) ([]byte, error) {
	return s.client.GetOnce(s.ctx, s.db+elem)
}

// ReadTiles reads tiles one after another: there are few.
func (s *serverTiles) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, t := range tiles {
		tile, err := proof.ReadTile(t, func(t tlog.Tile) ([]byte, error) { return s.get(t.Path()) }, func(error) bool { return true })
		if err == nil && len(tile) != t.W*tlog.HashSize {
			err = fmt.Errorf("%s has %d bytes", t.Path(), len(tile))
		}
		if err != nil {
			return nil, err
		}
		data = append(data, tile)
	}
	return data, nil
}

// SaveTiles has nothing to save them for.
func (s *serverTiles) SaveTiles([]tlog.Tile, [][]byte) error { return nil }

// serverURL checks the URL of a server and takes a slash off its end.
func serverURL(s string) (string, error) {
	if err := serve.CheckURL(s); err != nil {
		return "", usagef("%v", err)
	}
	return strings.TrimSuffix(s, "/"), nil
}

// serverClient returns a client for a server inside, with the credentials that go commands have.
func serverClient(ctx context.Context, base string) (*upstream.Client, error) {
	settings, err := readGoEnv(ctx)
	if err != nil {
		return nil, err
	}
	return upstream.New(base, settings.GOAUTH, 1)
}

// askServer gets the settings of a server.
func askServer(ctx context.Context, client *upstream.Client, base string) (serve.Settings, error) {
	var s serve.Settings
	data, err := client.GetOnce(ctx, base+"/settings.json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("not the settings of a modmirror server: %w", err)
	}
	for _, p := range s.Inside {
		if err := serve.CheckInside(p); err != nil {
			return s, fmt.Errorf("in its settings: %w", err)
		}
	}
	for _, u := range s.Also {
		if err := serve.CheckURL(u); err != nil {
			return s, fmt.Errorf("in its settings: %w", err)
		}
	}
	for _, p := range s.Private { // it goes into a shell, and GONOSUMDB has patterns in it
		if err := module.CheckPath(p); err != nil {
			return s, fmt.Errorf("in its settings: %w", err)
		}
	}
	return s, nil
}
