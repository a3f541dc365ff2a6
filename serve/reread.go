package serve

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheck is how often watched looks at its files.
const recheck = time.Second

// watched holds a value that is read from files, such as certificates or passwords. It reads them
// again when their size or time of modification changes. It is safe for concurrent use.
type watched[T any] struct {
	files []string // "" is skipped; set before the first call

	mu     sync.Mutex // guards what follows
	looked time.Time
	stamp  string // sizes and times of the files when they were read
	value  T
	ok     bool // value was read
}

// get returns the value. It calls read when the files changed since the last call, and looks at
// them at most once each recheck. When read fails get logs that, once for each change, and returns
// the value of before. It returns an error only when read never succeeded.
func (w *watched[T]) get(log *slog.Logger, read func() (T, error)) (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ok && time.Since(w.looked) < recheck {
		return w.value, nil
	}
	w.looked = time.Now()
	stamp := w.stampNow()
	if w.ok && stamp == w.stamp {
		return w.value, nil
	}
	value, err := read()
	switch {
	case err == nil:
		if w.ok {
			log.Info("read again", "files", w.files)
		}
		w.value, w.ok, w.stamp = value, true, stamp
	case w.ok:
		w.stamp = stamp
		log.Error("cannot be read again; what was read before stays in use", "files", w.files, "err", err)
		return w.value, nil
	}
	return w.value, err
}

// last returns the value as get returned it last, without a look at the files.
func (w *watched[T]) last() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.value
}

// stampNow returns the sizes and times of the files as they are now. A missing file has none.
func (w *watched[T]) stampNow() (stamp string) {
	for _, f := range w.files {
		if st, err := os.Stat(f); err == nil {
			stamp += fmt.Sprintln(f, st.Size(), st.ModTime().UnixNano())
		}
	}
	return stamp
}
