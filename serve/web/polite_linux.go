package web

import (
	"runtime"
	"syscall"
)

// niceness is the priority of threads that make pages: four levels above the lowest one (nice(2)).
const niceness = 15

// politely calls f on a thread with a low priority, and returns when f has.
func politely(f func()) {
	done := make(chan any)
	go func() {
		// For good: the thread ends with the goroutine, and no other one is made from it.
		runtime.LockOSThread()
		defer func() { done <- recover() }()
		syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), niceness)
		f()
	}()
	if failed := <-done; failed != nil {
		panic(failed)
	}
}
