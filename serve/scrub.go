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
	place, err := l.bundle.Find(f)
	if err != nil {
		return err
	}
	at, err := l.locate(f, place)
	if err != nil {
		return err
	}
	l.isVerified(at) // takes note of what the medium is now
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

// Damage returns the path of a file that did not verify, "" while there is none.
func (h *handler) Damage() (path string) {
	if h.damages.Load() > 0 {
		h.damage.Range(func(p, _ any) bool { path = p.(string); return false })
	}
	return path
}

// damaged remembers that a file did not verify.
func (h *handler) damaged(path string) {
	if _, known := h.damage.LoadOrStore(path, true); !known {
		h.damages.Add(1)
		if h.ctx != nil {
			go h.recheck(path)
		}
	}
	h.metrics.failures.Inc()
	h.log.Error("a file of the bundle does not verify; its body was not sent", "path", path)
}

// repaired forgets that, when all of the file was verified since: one in a bucket may have been changed on its way.
func (h *handler) repaired(path string) {
	if h.damages.Load() == 0 {
		return
	}
	if _, known := h.damage.LoadAndDelete(path); known {
		h.damages.Add(-1)
		h.log.Info("a file that did not verify does now", "path", path)
	}
}

// recheckInterval is how long after a file of a bucket did not verify it is fetched again.
const recheckInterval = 5 * time.Second

// recheck fetches a file of a bucket again until it verifies: it may have been changed on its way, and nobody asks a server that is not ready.
func (h *handler) recheck(path string) {
	for sleep(h.ctx, recheckInterval) && h.acquire() {
		remote, err := h.refetch(path)
		h.release()
		if !remote || err == nil {
			return
		}
	}
}

func (h *handler) refetch(path string) (remote bool, err error) {
	f, ok, err := h.view.File(h.ctx, path)
	if err != nil || !ok {
		return false, err
	}
	if place, err := f.In.Find(f.File); err != nil || !place.Medium.Remote() {
		return false, err
	}
	src, err := h.large[f.In].open(h.ctx, f.File)
	if err != nil {
		return true, err
	}
	defer src.close()
	return true, src.verify(h.ctx)
}
