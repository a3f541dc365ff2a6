// Command ratios prints the table of bench/all and compares it with the committed one.
//
//	ratios -form short -committed bench/ratios.json [-json FILE] [-again FILE] ROWS
//
// ROWS has a row a line: name, value, "lower" or "higher" for what is better, and the script that
// measured it, with tabs between them. When scripts ran more than once, the best value of a name
// counts. ratios ends with 1 when a row is worse than the committed one by more than a quarter, or
// was not measured. -again leaves the names of the scripts of such rows in a file, so that they can
// run again: on a busy machine the first measurement may be wrong.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// worse is by how much of the committed ratio a row may be worse.
const worse = 0.25

func main() {
	log.SetFlags(0)
	log.SetPrefix("ratios: ")
	form := flag.String("form", "full", "the form of bench/all, which says what was measured: full or short")
	committed := flag.String("committed", "bench/ratios.json", "file to compare with")
	out := flag.String("json", "", "write the table to this file; other forms stay as they are in the committed one")
	again := flag.String("again", "", "write the scripts of bad rows to this file, one a line")
	flag.Parse()
	text, err := os.ReadFile(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	rows, err := parse(string(text))
	if err != nil {
		log.Fatal(flag.Arg(0), ": ", err)
	}
	forms := make(map[string]table)
	if data, err := os.ReadFile(*committed); err == nil {
		if err := json.Unmarshal(data, &forms); err != nil {
			log.Fatal(*committed, ": ", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		log.Fatal(err)
	}
	bad := compare(os.Stdout, rows, forms[*form])
	if *out != "" {
		forms[*form] = rows
		data, err := json.MarshalIndent(forms, "", "\t")
		if err == nil {
			err = os.WriteFile(*out, append(data, '\n'), 0o666)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	if *again != "" {
		if err := os.WriteFile(*again, []byte(strings.Join(bad, "\n")+"\n"), 0o666); err != nil {
			log.Fatal(err)
		}
	}
	if len(bad) > 0 {
		os.Exit(1)
	}
}

// A row is a ratio, or another number that does not depend on the machine's speed.
type row struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Better string  `json:"better"` // lower or higher
	Script string  `json:"script"`
}

// A table has the rows of a form of bench/all in the order in which they were measured.
type table []row

// find returns the row of a name, or nil.
func (t table) find(name string) *row {
	if i := slices.IndexFunc(t, func(r row) bool { return r.Name == name }); i >= 0 {
		return &t[i]
	}
	return nil
}

// parse reads rows and keeps the best of each name.
func parse(text string) (table, error) {
	var t table
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 || f[2] != "lower" && f[2] != "higher" {
			return nil, fmt.Errorf("%q is no row", line)
		}
		v, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f[0], err)
		}
		r := row{f[0], v, f[2], f[3]}
		switch known := t.find(r.Name); {
		case known == nil:
			t = append(t, r)
		case r.Better == "lower":
			known.Value = min(known.Value, v)
		default:
			known.Value = max(known.Value, v)
		}
	}
	return t, nil
}

// beside reports whether a row compares with another build of modmirror. Such rows have no
// committed value that they must keep, and are measured on request.
func (r row) beside() bool { return strings.HasSuffix(r.Name, " : before") }

// compare prints the rows beside the committed ones, and returns the scripts of bad rows.
func compare(w io.Writer, rows, committed table) []string {
	var bad []string
	fail := func(r row) {
		if !slices.Contains(bad, r.Script) {
			bad = append(bad, r.Script)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\tnow\tcommitted\tbetter\t\n")
	for _, r := range rows {
		was, remark := "", ""
		if old := committed.find(r.Name); old != nil && !r.beside() {
			was = fmt.Sprintf("%.2f", old.Value)
			switch low, high := old.Value*(1-worse), old.Value*(1+worse); {
			case r.Better == "lower" && r.Value > high, r.Better == "higher" && r.Value < low:
				remark = "WORSE by more than a quarter"
				fail(r)
			case r.Better == "lower" && r.Value < low, r.Better == "higher" && r.Value > high:
				remark = "better: bench/all --update keeps it"
			}
		}
		fmt.Fprintf(t, "%s\t%.2f\t%s\t%s\t%s\n", r.Name, r.Value, was, r.Better, remark)
	}
	for _, old := range committed {
		if !old.beside() && rows.find(old.Name) == nil {
			fmt.Fprintf(t, "%s\tnone\t%.2f\t%s\tNOT MEASURED\n", old.Name, old.Value, old.Better)
			fail(old)
		}
	}
	t.Flush()
	return bad
}
