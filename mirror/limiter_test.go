package mirror

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

// waiters returns how many goroutines wait for their turn.
func (l *limiter) waiters() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.urgent.Len() + l.waiting.Len()
}

// awaitWaiters waits until n goroutines wait.
func awaitWaiters(t *testing.T, l *limiter, n int) {
	t.Helper()
	for range 1000 {
		if l.waiters() == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d goroutines wait, want %d", l.waiters(), n)
}

// TestLimiterOrder lets urgent goroutines go first, and all others in the order in which they came.
func TestLimiterOrder(t *testing.T) {
	l := newLimiter(1)
	ctx := t.Context()
	if err := l.acquire(ctx); err != nil {
		t.Fatal(err)
	}
	var got []string
	var wg sync.WaitGroup
	for i, name := range []string{"a", "b", "urgent c", "urgent d"} {
		ctx := ctx
		if i >= 2 {
			ctx = urgent(ctx)
		}
		wg.Go(func() {
			if err := l.acquire(ctx); err != nil {
				t.Error(err)
			}
			got = append(got, name)
			l.release()
		})
		awaitWaiters(t, l, i+1)
	}
	l.release()
	wg.Wait()
	if want := []string{"urgent c", "urgent d", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if l.free != 1 {
		t.Errorf("%d are free, want 1", l.free)
	}
}

// TestLimiterCanceled loses no turn when goroutines give up.
func TestLimiterCanceled(t *testing.T) {
	l := newLimiter(2)
	gone := errors.New("gone")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if err := l.acquire(ended); err != gone || l.free != 2 {
		t.Errorf("%v with %d free, want %v", err, l.free, gone)
	}
	var most, now int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 2000 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*50*time.Microsecond)
		if i%3 == 0 {
			ctx = urgent(ctx)
		}
		wg.Go(func() {
			defer cancel()
			if l.acquire(ctx) != nil {
				return
			}
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(20 * time.Microsecond)
			mu.Lock()
			now--
			mu.Unlock()
			l.release()
		})
	}
	wg.Wait()
	if most > 2 || l.free != 2 || l.waiters() != 0 {
		t.Errorf("%d at once, then %d free and %d waiting", most, l.free, l.waiters())
	}
}
