package serve

import (
	"context"

	"github.com/modmirror/modmirror/review"
)

// review compares what the view carries with the vulnerability database that it carries, if any,
// for the log and the metrics.
func (h *handler) review(ctx context.Context) {
	found, err := review.CarriedVulns(ctx, h.view.Lines...)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		h.log.Warn("which versions have vulnerabilities is not known", "why", err)
		return
	case found == nil:
		return
	}
	h.vulns.Store(&vulnCounts{affected: found.Affected, fixable: found.Fixable, modified: found.Database.Unix()})
	h.log.Info(found.Summary(), "database", found.Database, "more", "modmirror vulns")
}

// vulnCounts count carried versions with known vulnerabilities.
type vulnCounts struct {
	affected, fixable int
	modified          int64 // of the database, Unix time in seconds
}
