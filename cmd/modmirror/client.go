package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	goversion "go/version"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
	"github.com/modmirror/modmirror/serve"
)

// A check is what doctor found out about a setting of a client.
type check struct {
	What string `json:"what"` // the setting, such as GOFLAGS
	OK   bool   `json:"ok"`
	Says string `json:"says"`          // what is wrong, or that nothing is
	Fix  string `json:"fix,omitempty"` // a command, "" for none
}

// checks is what doctor found out about a client.
type checks []check

// add adds a check: says and fix if bad is true, and else that the setting is right.
func (c *checks) add(what string, bad bool, says, fix string) {
	if bad {
		*c = append(*c, check{what, false, says, fix})
	} else {
		*c = append(*c, check{what, true, "as it should be", ""})
	}
}

// checkClient compares the go command's settings here with what a server needs, and prints the
// result.
func checkClient(ctx context.Context, e *env, server string, asJSON bool) error {
	base, err := serverURL(server)
	if err != nil {
		return err
	}
	client, err := serverClient(ctx, base)
	if err != nil {
		return err
	}
	found, goEnv, err := checkAll(ctx, client, base)
	if err != nil {
		return err
	}
	if asJSON {
		if err := writeJSON(e.stdout, found); err != nil {
			return err
		}
	} else {
		found.print(e.stdout)
	}
	if !slices.ContainsFunc(found, func(c check) bool { return !c.OK }) {
		return nil
	}
	switch {
	case asJSON:
	case goEnv.before113():
		e.hint(`eval "$(modmirror env %s)" sets all of them for this shell, and has to be run in each: this Go has no "go env -w"`, base)
	default:
		e.hint(`eval "$(modmirror env %s)" sets all of them for this shell; modmirror env --shell go %[1]s prints a command that lasts`, base)
	}
	return errFailed
}

// print prints checks for people.
func (c checks) print(w io.Writer) {
	for _, c := range c {
		word := "ok "
		if !c.OK {
			word = "BAD"
		}
		fmt.Fprintf(w, "%s  %s: %s\n", word, c.What, cleanText(c.Says))
		if c.Fix != "" {
			fmt.Fprintf(w, "     hint: %s\n", c.Fix)
		}
	}
}

// clientEnv are the settings of the go command on a client, as go env prints them.
type clientEnv struct {
	GOPROXY, GONOPROXY, GOSUMDB, GONOSUMDB, GOPRIVATE, GOFLAGS, GOPATH, GOVERSION, GOTOOLCHAIN string
}

// clientGoEnv reads the settings of the go command here.
func clientGoEnv(ctx context.Context) (c clientEnv, err error) {
	out, err := exec.CommandContext(ctx, "go", "env", "-json", "GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB",
		"GOPRIVATE", "GOFLAGS", "GOPATH", "GOVERSION", "GOTOOLCHAIN").Output()
	if err == nil {
		err = json.Unmarshal(out, &c)
	}
	if err != nil {
		return c, fmt.Errorf("asking go env: %w", err)
	}
	if c.GOVERSION == "" { // go env has it since Go 1.16
		out, err := exec.CommandContext(ctx, "go", "version").Output()
		if f := strings.Fields(string(out)); err == nil && len(f) > 2 {
			c.GOVERSION = f[2]
		}
	}
	return c, nil
}

// before113 reports whether the go command is older than Go 1.13: it has no checksum database, no
// "go env -w", and one entry in GOPROXY.
func (c clientEnv) before113() bool {
	return goversion.IsValid(c.GOVERSION) && goversion.Compare(c.GOVERSION, "go1.13") < 0
}

// set returns the command that makes a setting last or, before Go 1.13, sets it for the shell.
func (c clientEnv) set(name, value string) string {
	if c.before113() {
		return fmt.Sprintf("export %s='%s'", name, value)
	}
	return fmt.Sprintf("go env -w '%s=%s'", name, value)
}

// checkAll asks a server for its settings, and checks those of the go command here, the servers of
// the network inside, and the tree head that the go command remembers. It returns the settings of
// the go command, which it does not read when the server does not answer.
func checkAll(ctx context.Context, client *upstream.Client, base string) (found checks, c clientEnv, err error) {
	s, err := askServer(ctx, client, base)
	if err != nil {
		layer, advice := upstream.Diagnose(err)
		if up, ok := errors.AsType[*upstream.Error](err); ok {
			if path, below := strings.CutPrefix(up.Text, "this server is below "); below {
				advice = "ask there: modmirror doctor --proxy " + base + path
			}
		}
		return checks{{"server", false, fmt.Sprintf("%s: %v", layer, err), advice}}, c, nil
	}
	if c, err = clientGoEnv(ctx); err != nil {
		return nil, c, err
	}
	found = checks{{"server", true, fmt.Sprintf("bundle %s of %s", s.Bundle, s.Created), ""}}
	found = append(found, c.against(base, s)...)
	found = append(found, insideHosts(ctx, s)...)
	if s.SumDB != "" && !c.before113() {
		found = append(found, c.rememberedHead(ctx, client, base, s.SumDB))
	}
	return found, c, nil
}

// against compares the settings of the go command with those that a server at base needs.
func (c clientEnv) against(base string, s serve.Settings) (found checks) {
	want := make(map[string]string)
	for _, v := range s.Vars(base, c.GOPRIVATE == "") {
		want[v.Name] = v.Value
	}
	c.checkProxies(&found, base, s, want["GOPROXY"])
	if c.before113() {
		found.add("GOSUMDB", false, "", "")
		found[len(found)-1].Says = c.GOVERSION + " has no checksum database, GONOPROXY and GONOSUMDB: it compares with go.sum alone"
	} else {
		for _, b := range goenv.BadPatterns(c.GOPRIVATE, c.GONOPROXY, c.GONOSUMDB) {
			found.add(b.Setting, true, fmt.Sprintf("has %q, which matches nothing: %v", b.Pattern, b.Err),
				c.set(b.Setting, want[b.Setting]))
		}
		c.checkDirect(&found, want["GONOPROXY"])
		c.checkSumDB(&found, s)
		c.checkUnchecked(&found, s, want["GONOSUMDB"])
	}
	found.add("GOFLAGS", strings.Contains(c.GOFLAGS, "-mod=vendor"),
		"has -mod=vendor: go commands read vendor folders and never ask the server",
		c.set("GOFLAGS", "")+" (and look at the environment)")
	if req, err := http.NewRequest("GET", base, nil); err == nil {
		way, _ := http.ProxyFromEnvironment(req)
		found.add("HTTP_PROXY", way != nil,
			fmt.Sprintf("requests to the server go through %s", upstream.Redact(fmt.Sprint(way))),
			"export NO_PROXY="+req.URL.Hostname())
	}
	for i, k := range found {
		if os.Getenv(k.What) != "" && !k.OK && strings.HasPrefix(k.Fix, "go env -w ") {
			found[i].Fix += fmt.Sprintf(", and take %s out of the environment, which goes before it", k.What)
		}
	}
	return found
}

// checkProxies checks GOPROXY: the server must come first, and a proxy with modules of the network
// inside after it, if there is one.
func (c clientEnv) checkProxies(found *checks, base string, s serve.Settings, want string) {
	entries := strings.FieldsFunc(c.GOPROXY, func(r rune) bool { return r == ',' || r == '|' })
	proxies := strings.Split(want, ",")
	others := without(entries, func(p string) bool { return slices.Contains(proxies, strings.TrimSuffix(p, "/")) })
	lacking := without(s.Also, func(p string) bool { return slices.Contains(entries, p) })
	fix := c.set("GOPROXY", want)
	switch {
	case len(entries) == 0 || strings.TrimSuffix(entries[0], "/") != base:
		found.add("GOPROXY", true, "is not this server, but "+cmp.Or(withoutUsers(entries), "empty"), fix)
	case slices.Contains(entries, "direct"):
		found.add("GOPROXY", true, "ends in direct: what is not carried is looked for in a network that is not there, and hangs", fix)
	case len(lacking) > 0 && !c.before113():
		found.add("GOPROXY", true,
			fmt.Sprintf("lacks %s, which has modules of your own network", withoutUsers(lacking)), fix)
	default:
		found.add("GOPROXY", len(others) > 0,
			fmt.Sprintf("is %s: others are asked besides this server", withoutUsers(entries)), fix)
	}
}

// checkDirect checks GONOPROXY: it must name the modules of the network inside, and no others.
func (c clientEnv) checkDirect(found *checks, want string) {
	direct := modpath.Patterns(c.GONOPROXY)
	if c.GONOPROXY == "none" {
		direct = nil
	}
	inside := without(modpath.Patterns(want), func(p string) bool { return p == "none" })
	past := without(direct, func(p string) bool { return slices.Contains(inside, p) })
	missing := without(inside, func(p string) bool { return slices.Contains(direct, p) })
	fix := c.set("GONOPROXY", want)
	if len(past) > 0 {
		found.add("GONOPROXY", true, fmt.Sprintf("is %q (GOPRIVATE is its default): such modules are fetched past the "+
			"server, from a network that is not there", c.GONOPROXY), fix)
		return
	}
	found.add("GONOPROXY", len(missing) > 0,
		fmt.Sprintf("lacks %s: modules of your own network, which this server does not have",
			strings.Join(missing, ", ")), fix)
}

// checkSumDB checks GOSUMDB: it must be the checksum database that the server has.
func (c clientEnv) checkSumDB(found *checks, s serve.Settings) {
	switch {
	case s.SumDB == "":
		// The go command asks no database if GONOSUMDB has all modules that are carried.
		private := !slices.ContainsFunc(s.Private,
			func(p string) bool { return !module.MatchPrefixPatterns(c.GONOSUMDB, p) })
		found.add("GOSUMDB", c.GOSUMDB != "off" && !private,
			"the bundle carries no checksum database, and the go command will look for one", c.set("GOSUMDB", "off"))
	case c.GOSUMDB == "off":
		found.add("GOSUMDB", true, "is off: nothing checks what a new module is, although the bundle carries the proofs",
			c.set("GOSUMDB", s.SumDB))
	default:
		db, err := proof.ParseGOSUMDB(c.GOSUMDB)
		found.add("GOSUMDB", err != nil || db.Name != s.SumDB || db.URL != "",
			fmt.Sprintf("is %q, the bundle carries %s", c.GOSUMDB, s.SumDB), c.set("GOSUMDB", s.SumDB))
	}
}

// checkUnchecked checks GONOSUMDB: it must match the modules outside the checksum database, and
// should match no others.
func (c clientEnv) checkUnchecked(found *checks, s serve.Settings, want string) {
	patterns := modpath.Patterns(c.GONOSUMDB)
	carried := func(pattern string) bool { // matches a private module of the bundle
		return slices.ContainsFunc(s.Private, func(p string) bool { return module.MatchPrefixPatterns(pattern, p) })
	}
	wide := without(patterns, func(p string) bool {
		return slices.Contains(s.Inside, p) || modpath.CheckPattern(p) != nil || carried(p) && !tooWide(p)
	})
	lacks := without(s.Private, func(p string) bool { return module.MatchPrefixPatterns(c.GONOSUMDB, p) })
	lacks = append(lacks, without(s.Inside, func(p string) bool { return slices.Contains(patterns, p) })...)
	fix := c.set("GONOSUMDB", want)
	if s.SumDB != "" && len(lacks) > 0 {
		some := strings.Join(lacks[:min(3, len(lacks))], ", ")
		found.add("GONOSUMDB", true, fmt.Sprintf("lacks %s, which the checksum database cannot know", some), fix)
		return
	}
	found.add("GONOSUMDB", s.SumDB != "" && len(wide) > 0,
		fmt.Sprintf("has %s: wider than the bundle's private modules, and whatever is under it goes unchecked",
			strings.Join(wide, ", ")), fix)
}

// without returns a copy of list without the elements for which is returns true.
func without(list []string, is func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(list), is)
}

// insideTimeout is how long a server of the network inside may take to answer.
const insideTimeout = 3 * time.Second

// insideHosts checks that the servers of modules of the network inside answer: the proxies of
// serve --also or, if there are none, the hosts that patterns of serve --inside name in full, at
// the ports of HTTPS, SSH and HTTP.
func insideHosts(ctx context.Context, s serve.Settings) (found checks) {
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
			found = append(found, check{what, false,
				fmt.Sprintf("which has modules of your own network, does not answer: %v", err),
				"ask who runs it, or who runs serve --also"})
		} else {
			found = append(found, check{what, true, "answers", ""})
		}
	}
	if len(s.Also) > 0 {
		return found
	}
	seen := make(map[string]bool)
	for _, p := range s.Inside {
		host, _, _ := strings.Cut(p, "/")
		if strings.ContainsAny(host, "*?[") || seen[host] {
			continue
		}
		seen[host] = true
		if err := reachable(ctx, host); err != nil {
			found = append(found, check{host, false,
				fmt.Sprintf("has modules of your own network, and does not answer at port 443, 22 or 80: %v", err),
				"is it in reach from here? Such modules are fetched from it directly"})
		} else {
			found = append(found, check{host, true, "answers", ""})
		}
	}
	return found
}

// reachable returns nil if a host accepts a connection at the port of HTTPS, SSH or HTTP, and else
// the error of the first port that failed.
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

// withoutUsers joins the entries of a GOPROXY value, without user names and passwords.
func withoutUsers(entries []string) string {
	list := make([]string, len(entries))
	for i, s := range entries {
		list[i] = upstream.Redact(s)
	}
	return strings.Join(list, ",")
}

// tooWide reports whether a pattern matches everything or whole top-level domains.
func tooWide(pattern string) bool {
	host, _, _ := strings.Cut(pattern, "/")
	i := strings.LastIndex(host, "*")
	return i >= 0 && strings.Count(host[i:], ".") < 2
}

// serverURL checks the URL of a server and returns it without a slash at its end.
func serverURL(s string) (string, error) {
	if err := serve.CheckURL(s); err != nil {
		return "", usagef("%v", err)
	}
	return strings.TrimSuffix(s, "/"), nil
}

// serverClient returns a client for a server inside, with the credentials of the go command.
func serverClient(ctx context.Context, base string) (*upstream.Client, error) {
	settings, err := goenv.Read(ctx)
	if err != nil {
		return nil, err
	}
	return upstream.New(base, settings.GOAUTH, 1)
}

// askServer returns the settings of a server. It checks them, because they go into shell commands.
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
	for _, p := range s.Private { // GONOSUMDB would take more than a path for a pattern
		if err := module.CheckPath(p); err != nil {
			return s, fmt.Errorf("in its settings: %w", err)
		}
	}
	return s, nil
}
