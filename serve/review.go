package serve

import (
	"context"
	"errors"
	"time"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/review"
)

// reviewPause is how long review waits after a storage did not answer.
const reviewPause = 10 * time.Minute

// review compares what the view carries with the vulnerability database that it carries, if any,
// for the log and the metrics.
func (h *handler) review(ctx context.Context) {
	for {
		found, err := review.CarriedVulns(ctx, h.view.Lines...)
		switch _, away := errors.AsType[*media.UnavailableError](err); {
		case ctx.Err() != nil, err == nil && found == nil:
			return
		case err == nil:
			h.vulns.Store(found)
			h.log.Info(found.Summary(), "database", found.Database, "more", "modmirror vulns")
			return
		case !away:
			h.log.Warn("which versions have vulnerabilities is not known", "why", err)
			return
		}
		if !sleep(ctx, reviewPause) {
			return
		}
	}
}
