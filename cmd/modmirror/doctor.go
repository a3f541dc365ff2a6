package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// defaultPatient is the module that doctor asks proxies for: every proxy has it, and its zip is large enough to measure.
const defaultPatient = "golang.org/x/text"

// maxProbe bounds --probe: it is to measure a proxy, not to wear it out.
const maxProbe = 1000

func doctorCommand() *command {
	var f struct {
		proxy, goproxy, gosumdb string
		probe                   int
		asJSON                  bool
	}
	return &command{
		name:    "doctor",
		summary: "find out why it does not work, upstream or inside",
		usage: `
Usage: modmirror doctor [flags] [MODULE[@VERSION]]
       modmirror doctor --proxy URL

Outside it asks each proxy of GOPROXY for a module, and for the checksum database, and
says at which layer a request failed and what to do about it. With --probe N it
measures the proxies, and recommends an order.

Inside, on a client, --proxy URL holds the settings of the go command here against
what the server at that URL needs, and says what to set.

Example:
  modmirror doctor github.com/spf13/pflag@v1.0.10
  modmirror doctor --probe 50
  modmirror doctor --proxy http://goproxy.corp.example:8080
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.proxy, "proxy", "", "check this client against the modmirror server at a `URL`")
			fs.IntVar(&f.probe, "probe", 0, "measure each proxy with `N` requests")
			fs.StringVar(&f.goproxy, "goproxy", "", "proxies, instead of go env GOPROXY")
			fs.StringVar(&f.gosumdb, "gosumdb", "", "checksum database, instead of go env GOSUMDB")
			fs.BoolVar(&f.asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if f.proxy != "" {
				if len(args) > 0 || f.probe != 0 {
					return usagef("--proxy stands alone")
				}
				return checkClient(ctx, e, f.proxy, f.asJSON)
			}
			if len(args) > 1 || f.probe < 0 || f.probe > maxProbe {
				return usagef("want at most one module, and --probe from 1 to %d", maxProbe)
			}
			patient := module.Version{Path: defaultPatient}
			if len(args) == 1 {
				patient.Path, patient.Version, _ = strings.Cut(args[0], "@")
			}
			if err := module.CheckPath(patient.Path); err != nil {
				return usagef("%v", err)
			}
			settings, err := readGoEnv(ctx)
			if err != nil {
				return err
			}
			settings.override(f.goproxy, f.gosumdb)
			settings.warnPatterns(e)
			client, err := upstream.New(settings.GOPROXY, settings.GOAUTH, 8)
			if err != nil {
				return err
			}
			private := module.MatchPrefixPatterns(settings.GONOPROXY, patient.Path) // no proxy is to hear of it
			if private && f.probe > 0 {
				return usagef("%s is fetched directly, since GONOPROXY or GOPRIVATE names it: there is no proxy to measure", patient.Path)
			}
			if f.probe > 0 {
				return probe(ctx, e, client, patient.Path, f.probe, f.asJSON)
			}
			return diagnose(ctx, e, client, settings, patient, private, f.asJSON)
		},
	}
}

// diagnose asks the upstream side.
func diagnose(ctx context.Context, e *env, client *upstream.Client, settings goEnv, patient module.Version, private, asJSON bool) error {
	db, err := proof.ParseGOSUMDB(settings.GOSUMDB)
	if err != nil {
		return err
	}
	name, dbURL := "", ""
	if db != nil && !module.MatchPrefixPatterns(settings.GONOSUMDB, patient.Path) {
		name, dbURL = db.Name, db.URL
	}
	var findings []upstream.Finding
	var ok bool
	if private {
		tmp, err := os.MkdirTemp("", "modmirror-doctor-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		var f upstream.Finding
		f, ok = upstream.NewDirect(tmp).Doctor(ctx, patient)
		findings = append(findings, f)
	} else {
		findings, ok = client.Doctor(ctx, patient, name, dbURL)
	}
	if asJSON {
		if err := writeJSON(e.stdout, append([]upstream.Finding{}, findings...)); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			fmt.Fprintf(e.stdout, "%-15s %s (%v)\n", f.Layer, f.URL, f.Elapsed.Round(time.Millisecond))
			if f.Detail != "" {
				fmt.Fprintf(e.stdout, "                %s\n", oneLine(errors.New(f.Detail)))
				fmt.Fprintf(e.stdout, "                hint: %s\n", f.Advice)
			}
		}
	}
	if !ok {
		return errFailed
	}
	if !asJSON {
		fmt.Fprintln(e.stdout, "sync has what it needs")
	}
	return nil
}

// probe measures the proxies.
func probe(ctx context.Context, e *env, client *upstream.Client, path string, n int, asJSON bool) error {
	measures := client.Probe(ctx, path, n)
	if asJSON {
		return writeJSON(e.stdout, append([]upstream.Measure{}, measures...))
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "P50\tP90\tP99\tfailed\tzip\tproxy")
	var order, without []string
	for _, m := range measures {
		ms := func(d time.Duration) string { return fmt.Sprint(d.Round(time.Millisecond / 10)) }
		fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\t%s/s\t%s\n", ms(m.P50), ms(m.P90), ms(m.P99), m.Failed, m.Requests, bytesText(int64(m.Rate)), m.URL)
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
			fmt.Fprintf(e.stdout, "%s: %s\n", m.URL, oneLine(errors.New(m.Trouble)))
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
