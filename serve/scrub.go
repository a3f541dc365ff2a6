package serve

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
)

const (
	// scrubShare is how many times as long as it took to verify a file the scrub waits before the next one, so that it takes a twentieth of
	// one core and of the disk.
	scrubShare = 19

	// scrubPause is how long it waits after a pass.
	scrubPause = 24 * time.Hour
)

// scrub verifies all files of a view, slowly, again and again, so that a disk that decays is found out before a client asks.
func (s *Server) scrub(ctx context.Context, h *handler) {
	for {
		h.scrubbed.Store(0)
		if h.pass(ctx) {
			s.scrubEnd.Store(time.Now().Unix())
		}
		if !sleep(ctx, scrubPause) {
			return
		}
	}
}

// pass verifies all files once, and reports whether it came to the end.
func (h *handler) pass(ctx context.Context) bool {
	var owed time.Duration
	for _, b := range h.view.Lines {
		for f, err := range b.Index.Files(ctx) {
			if ctx.Err() != nil {
				return false
			}
			if err != nil {
				h.log.Error("cannot verify on", "bundle", b.Manifest.Name, "err", err)
				return false
			}
			start := time.Now()
			err := h.large[b].scrub(ctx, f)
			if _, bad := errors.AsType[*bundle.NotVerifiedError](err); !bad && err != nil && ctx.Err() == nil {
				h.log.Error("cannot verify", "path", f.Path, "err", err)
			}
			h.scrubbed.Add(1)
			if owed += scrubShare * time.Since(start); owed > 10*time.Millisecond {
				if !sleep(ctx, owed) {
					return false
				}
				owed = 0
			}
		}
	}
	return true
}

// scrub hashes a file, whatever is known of it.
func (l *largeFiles) scrub(ctx context.Context, f index.File) error {
	src, err := l.open(ctx, f)
	if err != nil {
		return err
	}
	defer src.close()
	at, ok := src.(*located)
	if !ok {
		return nil // its media verify it
	}
	at.sum = sha256.New()
	if err = l.send(ctx, io.Discard, f.Size, at); err != nil {
		l.forget(at)
	}
	return err
}

// sleep waits, and reports whether ctx is not done.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
