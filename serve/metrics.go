package serve

import (
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the counters of a server, for Prometheus. Dashboards and alerts in deploy/ use their
// names.
type metrics struct {
	registry *prometheus.Registry
	http     http.Handler

	requests  *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	durations *prometheus.HistogramVec
	misses    *prometheus.CounterVec
	refused   *prometheus.CounterVec
	trees     prometheus.Counter
	failures  prometheus.Counter
	audit     prometheus.Counter

	// The same by number, so that a request costs no map. An entry is made when it is first
	// counted, so that a scrape shows no others.
	byStatus [kinds][len(statuses) + 1]atomic.Pointer[prometheus.Counter]
	byKind   [kinds]atomic.Pointer[byKind]
}

// byKind are the metrics of requests of one kind.
type byKind struct {
	bytes    prometheus.Counter
	duration prometheus.Observer
}

// statuses are counted apart; all others are "other".
var statuses = [...]int{200, 206, 304, 401, 403, 404, 405, 412, 416, 429, 500, 503}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.http = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m.requests = counters("modmirror_requests_total",
		"Requests that were answered, by what was asked for and status.", "kind", "status")
	m.bytes = counters("modmirror_response_bytes_total", "Bytes of bodies that were sent.", "kind")
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "modmirror_request_duration_seconds", Help: "From the request to the last byte of the answer.",
		Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 600},
	}, []string{"kind"})
	m.misses = counters("modmirror_misses_total", "Requests for what is not carried (modmirror wants names it).", "kind")
	m.refused = counters("modmirror_access_refused_total", "Passwords and tokens that were wrong, "+
		"and passwords that were not looked at because their address sent so many wrong ones.", "reason")
	m.failures = counter("modmirror_verification_failures_total",
		"Times a file of the bundle was not what the index says; its body was not sent.")
	m.audit = counter("modmirror_audit_failures_total", "Lines of the audit that could not be written.")
	m.trees = counter("modmirror_unknown_trees_total", "Requests for tiles of trees of the checksum database "+
		"that the bundles do not know (modmirror wants names them).")
	m.registry.MustRegister(m.requests, m.bytes, m.durations, m.misses, m.refused, m.trees, m.failures, m.audit,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// count counts an exchange that ended now.
func (m *metrics) count(x *exchange, now time.Time) {
	i := slices.Index(statuses[:], x.status)
	if i < 0 {
		i = len(statuses)
	}
	c := m.byStatus[x.kind][i].Load()
	if c == nil {
		status := "other"
		if i < len(statuses) {
			status = strconv.Itoa(x.status)
		}
		n := m.requests.WithLabelValues(x.kind.String(), status)
		c = &n
		m.byStatus[x.kind][i].Store(c)
	}
	(*c).Inc()
	k := m.byKind[x.kind].Load()
	if k == nil {
		k = &byKind{m.bytes.WithLabelValues(x.kind.String()), m.durations.WithLabelValues(x.kind.String())}
		m.byKind[x.kind].Store(k)
	}
	k.bytes.Add(float64(x.bytes))
	k.duration.Observe(now.Sub(x.start).Seconds())
}

// state collects the metrics of a server that are read at a scrape instead of counted.
type state Server

var (
	descReady     = prometheus.NewDesc("modmirror_ready", "1 when the bundles are verified and none is damaged.", nil, nil)
	descInfo      = prometheus.NewDesc("modmirror_bundle_info", "A bundle that is served.", []string{"name", "id"}, nil)
	descSequence  = prometheus.NewDesc("modmirror_bundle_sequence", "Its sequence.", []string{"name"}, nil)
	descCreated   = prometheus.NewDesc("modmirror_bundle_created_timestamp_seconds", "When it was made.", []string{"name"}, nil)
	descVersions  = prometheus.NewDesc("modmirror_bundle_versions", "Module versions in its catalog.", []string{"name"}, nil)
	descStale     = prometheus.NewDesc("modmirror_store_not_served", "1 when what is in the store now cannot be served, and what was served before goes on.", nil, nil)
	descAffected  = prometheus.NewDesc("modmirror_vulnerable_versions", "Carried versions with known vulnerabilities, by whether a fix of each is carried.", []string{"fix"}, nil)
	descVulnDB    = prometheus.NewDesc("modmirror_vulndb_modified_timestamp_seconds", "When the newest entry of the vulnerability database changed.", nil, nil)
	descSkipped   = prometheus.NewDesc("modmirror_lines_not_served", "Lines that are there and cannot be served.", nil, nil)
	descScrubbed  = prometheus.NewDesc("modmirror_scrub_verified_files", "Files that the pass of the scrub under way has verified.", nil, nil)
	descScrubOf   = prometheus.NewDesc("modmirror_scrub_pass_files", "Files that it verifies in all.", nil, nil)
	descScrubEnd  = prometheus.NewDesc("modmirror_scrub_last_complete_timestamp_seconds", "When the last pass was complete, 0 for never.", nil, nil)
	descConns     = prometheus.NewDesc("modmirror_connections", "Open connections of clients.", nil, nil)
	descActive    = prometheus.NewDesc("modmirror_requests_in_flight", "Requests that are being answered.", nil, nil)
	descStore     = prometheus.NewDesc("modmirror_store_up", "1 when the storage that the bundles are in answered the last request.", nil, nil)
	descCacheSize = prometheus.NewDesc("modmirror_cache_bytes", "Bytes of the cache on the disk.", nil, nil)
	descCacheHits = prometheus.NewDesc("modmirror_cache_hits_total", "Contents that were in the cache on the disk, or on their way to it. Small files that are in memory are not counted.", nil, nil)
	descFetches   = prometheus.NewDesc("modmirror_cache_fetches_total", "Contents that were fetched from the storage.", nil, nil)
	descFailures  = prometheus.NewDesc("modmirror_cache_failures_total", "Contents that could not be fetched.", nil, nil)
	descDamaged   = prometheus.NewDesc("modmirror_damaged", "1 when a file of a bundle that is served does not verify.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *state) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	flag := func(d *prometheus.Desc, on bool) {
		if on {
			gauge(d, 1)
		} else {
			gauge(d, 0)
		}
	}
	open := 0
	for _, l := range s.conns {
		open += l.open()
	}
	gauge(descConns, float64(open))
	gauge(descActive, float64(s.active.Load()))
	if c, ok := (*Server)(s).shelf().Stats(); ok {
		_, err := (*Server)(s).shelf().Failing()
		flag(descStore, err == nil)
		gauge(descCacheSize, float64(c.Bytes))
		counter := func(d *prometheus.Desc, n int64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
		}
		counter(descCacheHits, c.Hits)
		counter(descFetches, c.Fetches)
		counter(descFailures, c.Failures)
	}
	h := (*Server)(s).current()
	flag(descReady, h != nil && (h.Damage() == "" || (*Server)(s).shelf().Heals()))
	flag(descStale, s.stale.Load() != nil)
	flag(descDamaged, h != nil && h.Damage() != "")
	if h == nil {
		return
	}
	defer h.release()
	for _, b := range h.view.Lines {
		m := b.Manifest
		gauge(descInfo, 1, m.Name, b.ID())
		gauge(descSequence, float64(m.Sequence), m.Name)
		gauge(descCreated, float64(m.Created.Unix()), m.Name)
		gauge(descVersions, float64(m.Counts.Versions), m.Name)
	}
	if v := h.vulns.Load(); v != nil {
		gauge(descAffected, float64(v.Fixable), "carried")
		gauge(descAffected, float64(v.Affected-v.Fixable), "not carried")
		gauge(descVulnDB, float64(v.Database.Unix()))
	}
	gauge(descSkipped, float64(len(h.view.Skipped)))
	if s.Scrub && !(*Server)(s).shelf().Heals() {
		gauge(descScrubbed, float64(h.scrubbed.Load()))
		gauge(descScrubOf, float64(h.files))
		gauge(descScrubEnd, float64(s.scrubEnd.Load()))
	}
}
