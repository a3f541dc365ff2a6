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
	// scrubShare is how many times as long as it took to verify a file the scrub waits before the
	// next one, so that it takes a twentieth of one core and of the disk.
	scrubShare = 19

	// scrubPause is how long the scrub waits after a pass.
	scrubPause = 24 * time.Hour
)

// scrub verifies the indexes and all files of a view, slowly and again and again until ctx is done.
// It finds the damage of a failing disk before a client asks for the file.
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

// pass verifies the copies of the indexes and all files once, and reports whether it completed.
func (h *handler) pass(ctx context.Context) bool {
	var owed time.Duration
	rest := func(took time.Duration) error {
		if owed += scrubShare * took; owed > 10*time.Millisecond {
			sleep(ctx, owed)
			owed = 0
		}
		return ctx.Err()
	}
	for _, b := range h.view.Lines {
		if err := b.RehashIndex(rest); ctx.Err() != nil {
			return false
		} else if err != nil {
			h.spoiled(b, err)
		}
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
			if rest(time.Since(start)) != nil {
				return false
			}
		}
	}
	return true
}

// scrub hashes a file, also one that was verified before.
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

// indexCopy stands for the copy of an index among the paths of files that did not verify.
const indexCopy = "the copy of the index in the state folder"

// spoiled records that the copy of b's index is not what was verified any more, or cannot be read.
// A new process makes a new copy.
func (h *handler) spoiled(b *bundle.Bundle, err error) {
	if _, known := h.damage.LoadOrStore(indexCopy, true); !known {
		h.damages.Add(1)
	}
	h.metrics.failures.Inc()
	h.log.Error(indexCopy+" is damaged; start serve again, which makes a new one", "bundle", b.Manifest.Name, "err", err)
}

// Damage returns the path of a file that did not verify, and not since; "" for none.
func (h *handler) Damage() (path string) {
	if h.damages.Load() > 0 {
		h.damage.Range(func(p, _ any) bool { path = p.(string); return false })
	}
	return path
}

// damaged records that a file did not verify.
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

// repaired clears a record of damaged, after all of the file was verified. A file of a bucket may
// have been damaged on its way only.
func (h *handler) repaired(path string) {
	if h.damages.Load() == 0 {
		return
	}
	if _, known := h.damage.LoadAndDelete(path); known {
		h.damages.Add(-1)
		h.log.Info("a file that did not verify does now", "path", path)
	}
}

// recheckInterval is how long recheck waits before each try.
const recheckInterval = 5 * time.Second

// recheck fetches a file of a bucket again until it verifies. It may have been damaged on its way,
// and no client asks a server that is not ready. It returns at once for a file on a disk.
func (h *handler) recheck(path string) {
	for sleep(h.ctx, recheckInterval) && h.acquire() {
		fetches, err := h.refetch(path)
		h.release()
		if !fetches || err == nil {
			return
		}
	}
}

// refetch fetches and verifies a file again, if its media fetch files.
func (h *handler) refetch(path string) (fetches bool, err error) {
	f, ok, err := h.view.File(h.ctx, path)
	if err != nil || !ok {
		return false, err
	}
	if _, err := f.In.Find(f.File); err != nil {
		return false, err
	}
	src, err := h.large[f.In].open(h.ctx, f.File)
	if err != nil {
		return true, err
	}
	defer src.close()
	if _, ok := src.(*fetched); !ok { // nothing of it is fetched again
		return false, nil
	}
	return true, src.verify(h.ctx)
}

// sleep waits for d, and reports whether ctx is not done.
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
