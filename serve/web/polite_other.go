//go:build !linux

package web

// politely calls f. Threads have no priority of their own here.
func politely(f func()) { f() }
