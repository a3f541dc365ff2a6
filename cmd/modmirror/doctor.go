package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// defaultProbe is the module that doctor asks proxies for. Every proxy has it, and its zip is large
// enough to measure.
const defaultProbe = "golang.org/x/text"

// maxProbes is the largest --probe, so that doctor does not wear out a proxy.
const maxProbes = 1000

// doctorFlags are the flags of doctor.
type doctorFlags struct {
	proxy, goproxy, gosumdb string
	probes                  int
	asJSON                  bool
}

func doctorCommand() *command {
	f := new(doctorFlags)
	return &command{
		name:    "doctor",
		summary: "find out why it does not work, upstream or inside",
		usage: `
Usage: modmirror doctor [flags] [MODULE[@VERSION]]
       modmirror doctor --proxy URL

Outside, it asks each proxy of GOPROXY for a module, and for the checksum database. It
says at which layer a request failed, and what to do about it. With --probe N it
measures the proxies and recommends an order.

Inside, on a client, --proxy URL compares the settings of the go command with what the
server at that URL needs, and says what to set.

Example:
  modmirror doctor github.com/spf13/pflag@v1.0.10
  modmirror doctor --probe 50
  modmirror doctor --proxy http://goproxy.corp.example:8080
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.proxy, "proxy", "", "check this client against the modmirror server at a `URL`")
			fs.IntVar(&f.probes, "probe", 0, "measure each proxy with `N` requests")
			fs.StringVar(&f.goproxy, "goproxy", "", "proxies, instead of go env GOPROXY")
			fs.StringVar(&f.gosumdb, "gosumdb", "", "checksum database, instead of go env GOSUMDB")
			fs.BoolVar(&f.asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if f.proxy != "" {
				if len(args) > 0 || f.probes != 0 {
					return usagef("--proxy stands alone")
				}
				return checkClient(ctx, e, f.proxy, f.asJSON)
			}
			if len(args) > 1 || f.probes < 0 || f.probes > maxProbes {
				return usagef("want at most one module, and --probe from 1 to %d", maxProbes)
			}
			probe := module.Version{Path: defaultProbe}
			if len(args) == 1 {
				probe.Path, probe.Version, _ = strings.Cut(args[0], "@")
			}
			if err := module.CheckPath(probe.Path); err != nil {
				return usagef("%v", err)
			}
			settings, err := goenv.Read(ctx)
			if err != nil {
				return err
			}
			settings.Override(f.goproxy, f.gosumdb)
			warnPatterns(e, &settings)
			if f.probes > 0 {
				return f.measure(ctx, e, settings, probe.Path)
			}
			return f.diagnose(ctx, e, settings, probe)
		},
	}
}

// diagnose asks the upstream for a module, and prints where a request failed.
func (f *doctorFlags) diagnose(ctx context.Context, e *env, settings goenv.Settings, probe module.Version) error {
	findings, ok, err := askUpstream(ctx, settings, probe)
	if err != nil {
		return err
	}
	if f.asJSON {
		if err := writeJSON(e.stdout, append([]upstream.Finding{}, findings...)); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			fmt.Fprintf(e.stdout, "%-15s %s (%v)\n", f.Layer, f.URL, f.Elapsed.Round(time.Millisecond))
			if f.Detail != "" {
				fmt.Fprintf(e.stdout, "                %s\n", cleanText(f.Detail))
				fmt.Fprintf(e.stdout, "                hint: %s\n", f.Advice)
			}
		}
	}
	if !ok {
		return errFailed
	}
	if !f.asJSON {
		fmt.Fprintln(e.stdout, "sync has what it needs")
	}
	return nil
}

// askUpstream asks the proxies and the checksum database for a module or, if GONOPROXY matches it,
// its own server: no proxy may learn its name then. It reports whether sync has what it needs.
func askUpstream(ctx context.Context, settings goenv.Settings, probe module.Version) ([]upstream.Finding, bool, error) {
	client, err := upstream.New(settings.GOPROXY, settings.GOAUTH, 8)
	if err != nil {
		return nil, false, err
	}
	db, err := proof.ParseGOSUMDB(settings.GOSUMDB)
	if err != nil {
		return nil, false, err
	}
	if module.MatchPrefixPatterns(settings.GONOPROXY, probe.Path) {
		tmp, err := os.MkdirTemp("", "modmirror-doctor-")
		if err != nil {
			return nil, false, err
		}
		defer os.RemoveAll(tmp)
		finding, ok := upstream.NewDirect(tmp).Doctor(ctx, probe)
		return []upstream.Finding{finding}, ok, nil
	}
	name, url := "", ""
	if db != nil && !module.MatchPrefixPatterns(settings.GONOSUMDB, probe.Path) {
		name, url = db.Name, db.URL
	}
	findings, ok := client.Doctor(ctx, probe, name, url)
	return findings, ok, nil
}

// measure measures the proxies, and recommends an order.
func (f *doctorFlags) measure(ctx context.Context, e *env, settings goenv.Settings, path string) error {
	client, err := upstream.New(settings.GOPROXY, settings.GOAUTH, 8)
	if err != nil {
		return err
	}
	if module.MatchPrefixPatterns(settings.GONOPROXY, path) {
		return usagef("%s is fetched directly, since GONOPROXY or GOPRIVATE names it: there is no proxy to measure",
			path)
	}
	measures := client.Probe(ctx, path, f.probes)
	if f.asJSON {
		return writeJSON(e.stdout, append([]upstream.Measure{}, measures...))
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "P50\tP90\tP99\tfailed\tzip\tproxy")
	var order, without []string
	for _, m := range measures {
		ms := func(d time.Duration) string { return fmt.Sprint(d.Round(time.Millisecond / 10)) }
		fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\t%s/s\t%s\n", ms(m.P50), ms(m.P90), ms(m.P99), m.Failed, m.Requests,
			bytesText(int64(m.Rate)), m.URL)
		if m.Failed == m.Requests {
			without = append(without, m.URL)
		} else {
			order = append(order, m.URL)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, m := range measures {
		if m.Trouble != "" {
			fmt.Fprintf(e.stdout, "%s: %s\n", m.URL, cleanText(m.Trouble))
		}
	}
	if len(order) == 0 {
		return errFailed
	}
	fmt.Fprintf(e.stdout, "recommended: GOPROXY=%s\n", strings.Join(order, "|"))
	if len(without) > 0 {
		fmt.Fprintf(e.stdout, "without %s, which answered nothing\n", strings.Join(without, ", "))
	}
	return nil
}
