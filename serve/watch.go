package serve

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheck is how often files that may be replaced while serving, such as certificates and passwords, are looked at.
const recheck = time.Second

// watched is what was read from files, read again when one of them changes. It is safe for concurrent use.
type watched[T any] struct {
	log   *slog.Logger
	files []string
	read  func() (T, error)

	mu     sync.Mutex
	looked time.Time
	state  string
	value  T
	ok     bool
}

// get returns what the files say. An error is returned only when they could never be read.
func (w *watched[T]) get() (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ok && time.Since(w.looked) < recheck {
		return w.value, nil
	}
	w.looked = time.Now()
	state := ""
	for _, f := range w.files {
		if st, err := os.Stat(f); err == nil {
			state += fmt.Sprintln(f, st.Size(), st.ModTime().UnixNano())
		}
	}
	if w.ok && state == w.state {
		return w.value, nil
	}
	value, err := w.read()
	switch {
	case err == nil:
		if w.ok {
			w.log.Info("read again", "files", w.files)
		}
		w.value, w.ok, w.state = value, true, state
	case w.ok:
		w.state = state // it is said once
		w.log.Error("cannot be read; what was read before goes on", "files", w.files, "err", err)
		return w.value, nil
	}
	return w.value, err
}
