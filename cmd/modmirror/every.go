package main

import (
	"sync"
	"time"
)

// every calls f at an interval until the returned function is called, which waits until f is not
// running and may be called several times.
func every(interval time.Duration, f func()) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				f()
			}
		}
	}()
	return sync.OnceFunc(func() { close(done); <-stopped })
}
