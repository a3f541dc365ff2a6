// Command waits reads a log of bench/delay and says where its client waited.
//
//	waits [-below 16] [-least 10ms] LOG
//
// It prints four things: the requests of each kind; the requests in flight over time; the times in
// which fewer than -below were in flight, for -least or longer, with the request that ended before
// and the one that began after; and a chain of requests from the end to the beginning, each the
// last that had ended when the next one began. A gap of that chain is time in which the client did
// something else before it asked.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("waits: ")
	below := flag.Int("below", 16, "requests in flight that are few")
	least := flag.Duration("least", 10*time.Millisecond, "shortest time that is printed")
	flag.Parse()
	text, err := os.ReadFile(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	l, err := parse(string(text))
	if err != nil {
		log.Fatal(flag.Arg(0), ": ", err)
	}
	l.report(os.Stdout, *below, *least)
}

// A request is a line of the log. Times are since the log's start.
type request struct {
	begin, end time.Duration
	status     string
	bytes      int64
	path       string
}

// A requests is a log, in the order in which requests began.
type requests struct {
	delay, end time.Duration
	list       []request
}

// parse reads a log.
func parse(text string) (*requests, error) {
	l := new(requests)
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		f := strings.Split(line, "\t")
		if len(f) < 4 {
			return nil, fmt.Errorf("line %d has %d fields: a log is what /-/log of bench/delay returns", i+1, len(f))
		}
		var n [3]int64
		for k, s := range []string{f[0], f[1], f[3]} {
			var err error
			if n[k], err = strconv.ParseInt(s, 10, 64); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
		begin, end := time.Duration(n[0])*time.Microsecond, time.Duration(n[1])*time.Microsecond
		if f[2] == "delay" {
			l.end, l.delay = end, time.Duration(n[2])*time.Microsecond
			continue
		}
		if len(f) != 5 || end < begin {
			return nil, fmt.Errorf("line %d is no request", i+1)
		}
		l.list = append(l.list, request{begin, end, f[2], n[2], f[4]})
	}
	if len(l.list) == 0 {
		return nil, fmt.Errorf("no requests")
	}
	slices.SortStableFunc(l.list, func(a, b request) int { return cmp.Compare(a.begin, b.begin) })
	return l, nil
}

// kinds are the kinds of requests in the order of their columns.
var kinds = []string{"mod", "info", "zip", "list", "latest", "lookup", "tile", "other"}

// kind returns what a path asks for.
func kind(p string) string {
	base := path.Base(p)
	ext := strings.TrimPrefix(path.Ext(base), ".")
	switch {
	case strings.Contains(p, "/lookup/"):
		return "lookup"
	case strings.Contains(p, "/tile/"):
		return "tile"
	case base == "list", base == "@latest":
		return strings.TrimPrefix(base, "@")
	case strings.Contains(p, "/@v/") && slices.Contains(kinds, ext):
		return ext
	}
	return "other"
}

// report prints everything.
func (l *requests) report(w io.Writer, below int, least time.Duration) {
	last := slices.MaxFunc(l.list, func(a, b request) int { return cmp.Compare(a.end, b.end) })
	fmt.Fprintf(w, "%d requests, %v each; the first began after %v, the last ended %v before the log did, at %v\n\n",
		len(l.list), l.delay, round(l.list[0].begin), round(l.end-last.end), round(l.end))
	l.reportKinds(w)
	l.reportFlight(w)
	l.reportFew(w, below, least)
	l.reportChain(w, least)
}

// reportKinds prints how many requests of each kind there were, and from when to when.
func (l *requests) reportKinds(w io.Writer) {
	t := table(w)
	fmt.Fprint(t, "kind\trequests\trepeated\tnot 200\tMiB\tfirst began\tlast ended\t\n")
	for _, k := range kinds {
		var n, failed int
		var bytes int64
		var first, last time.Duration
		seen := make(map[string]bool)
		for _, r := range l.list {
			if kind(r.path) != k {
				continue
			}
			if n == 0 {
				first = r.begin
			}
			n++
			bytes += r.bytes
			last = max(last, r.end)
			seen[r.path] = true
			if r.status != "200" {
				failed++
			}
		}
		if n > 0 {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.1f\t%v\t%v\t\n",
				k, n, n-len(seen), failed, float64(bytes)/(1<<20), round(first), round(last))
		}
	}
	t.Flush()
	fmt.Fprintln(w)
}

// columns is how many rows the table of requests in flight has.
const columns = 30

// reportFlight prints the requests in flight over time: their mean, and what began.
func (l *requests) reportFlight(w io.Writer) {
	step := (l.end/columns + 10*time.Millisecond).Truncate(10 * time.Millisecond)
	t := table(w)
	fmt.Fprintf(t, "from\tin flight\tbegan\t%s\t\n", strings.Join(kinds, "\t"))
	for from := time.Duration(0); from < l.end; from += step {
		to := from + step
		var sum time.Duration
		n := 0
		began := make(map[string]int)
		for _, r := range l.list {
			sum += max(0, min(r.end, to)-max(r.begin, from))
			if r.begin >= from && r.begin < to {
				n++
				began[kind(r.path)]++
			}
		}
		mean := float64(sum) / float64(step)
		fmt.Fprintf(t, "%v\t%.1f\t%d\t", round(from), mean, n)
		for _, k := range kinds {
			if began[k] > 0 {
				fmt.Fprint(t, began[k])
			}
			fmt.Fprint(t, "\t")
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	fmt.Fprintln(w)
}

// A change is a time at which a request begins or ends.
type change struct {
	at    time.Duration
	by    int // +1 or -1
	about *request
}

// changes returns the begins and ends of all requests in their order.
func (l *requests) changes() []change {
	list := make([]change, 0, 2*len(l.list))
	for i := range l.list {
		r := &l.list[i]
		list = append(list, change{r.begin, 1, r}, change{r.end, -1, r})
	}
	slices.SortStableFunc(list, func(a, b change) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	return list
}

// reportFew prints the times in which few requests were in flight.
func (l *requests) reportFew(w io.Writer, below int, least time.Duration) {
	fmt.Fprintf(w, "fewer than %d in flight, for %v or longer:\n", below, least)
	t := table(w)
	fmt.Fprint(t, "from\tfor\tmean\tnone for\t ended before … began after\n")
	var total, none time.Duration
	print := func(from, to, busy, empty time.Duration, around [2]string) {
		if to-from < least {
			return
		}
		total += to - from
		none += empty
		fmt.Fprintf(t, "%v\t%v\t%.1f\t%v\t %s … %s\n",
			round(from), round(to-from), float64(busy)/float64(to-from), round(empty), around[0], around[1])
	}
	inFlight := 0
	var from, at, busy, empty time.Duration
	before := "(start)"
	for _, c := range l.changes() {
		busy += time.Duration(inFlight) * (c.at - at)
		if inFlight == 0 {
			empty += c.at - at
		}
		at = c.at
		inFlight += c.by
		switch {
		case c.by > 0 && inFlight == below: // from here on they are many
			print(from, at, busy, empty, [2]string{before, c.about.path})
		case c.by < 0 && inFlight == below-1:
			from, busy, empty, before = at, 0, 0, c.about.path
		}
	}
	if inFlight < below {
		print(from, l.end, busy, empty+l.end-at, [2]string{before, "(end)"})
	}
	t.Flush()
	fmt.Fprintf(w, "together %v, with none %v\n\n", round(total), round(none))
}

// reportChain prints the chain of requests that ends with the last one.
func (l *requests) reportChain(w io.Writer, least time.Duration) {
	byEnd := slices.Clone(l.list)
	slices.SortStableFunc(byEnd, func(a, b request) int { return cmp.Compare(a.end, b.end) })
	var chain []request
	for i := len(byEnd) - 1; i >= 0; {
		chain = append(chain, byEnd[i])
		begin := byEnd[i].begin
		for i--; i >= 0 && byEnd[i].end > begin; i-- {
		}
	}
	slices.Reverse(chain)
	fmt.Fprintf(w, "chain of %d requests; its gaps of %v or longer:\n", len(chain), least)
	t := table(w)
	fmt.Fprint(t, "from\tfor\t ended before … began after\n")
	var gaps, at time.Duration
	before := "(start)"
	waited, asked := make(map[string]time.Duration), make(map[string]int)
	gap := func(to time.Duration, after string) {
		gaps += to - at
		if to-at >= least {
			fmt.Fprintf(t, "%v\t%v\t %s … %s\n", round(at), round(to-at), before, after)
		}
	}
	for _, r := range chain {
		gap(r.begin, r.path)
		at, before = r.end, r.path
		waited[kind(r.path)] += r.end - r.begin
		asked[kind(r.path)]++
	}
	gap(l.end, "(end)")
	t.Flush()
	fmt.Fprintf(w, "all gaps together %v; in requests", round(gaps))
	longest := func(a, b string) int { return cmp.Compare(waited[b], waited[a]) }
	for _, k := range slices.SortedFunc(maps.Keys(waited), longest) {
		fmt.Fprintf(w, " %s %v (%d)", k, round(waited[k]), asked[k])
	}
	fmt.Fprintln(w)
}

// round returns a time that is short to read.
func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// table returns a writer of columns.
func table(w io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
}
