package mirror

import (
	fifo "container/list"
	"context"
	"sync"
)

// A limiter bounds how many goroutines do something at once. Those that wait get their turn in the
// order in which they came, but urgent ones before all others.
type limiter struct {
	mu      sync.Mutex
	free    int
	urgent  fifo.List // of chan struct{}, closed when it is their turn
	waiting fifo.List
}

func newLimiter(n int) *limiter { return &limiter{free: n} }

type urgentKey struct{}

// urgent returns a context whose requests go before others: those of the graphs, since nobody knows
// what else to fetch before they are loaded.
func urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey{}, true) }

// acquire waits for a turn, which release ends. It returns the cause when ctx ends before.
func (l *limiter) acquire(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	if l.free > 0 {
		l.free--
		l.mu.Unlock()
		return nil
	}
	queue := &l.waiting
	if ctx.Value(urgentKey{}) != nil {
		queue = &l.urgent
	}
	turn := make(chan struct{})
	place := queue.PushBack(turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-turn: // just now, so the turn goes on to another
		l.pass()
	default:
		queue.Remove(place)
	}
	return context.Cause(ctx)
}

// release ends a turn.
func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass()
}

// pass gives a turn to the next that waits. The caller holds l.mu.
func (l *limiter) pass() {
	for _, queue := range []*fifo.List{&l.urgent, &l.waiting} {
		if first := queue.Front(); first != nil {
			close(queue.Remove(first).(chan struct{}))
			return
		}
	}
	l.free++
}
