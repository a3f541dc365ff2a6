package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		stop := every(time.Second, func() { n++ })
		time.Sleep(3*time.Second + time.Millisecond)
		stop()
		stop()
		time.Sleep(time.Minute)
		if n != 3 {
			t.Errorf("called %d times in 3 s, want 3", n)
		}
	})
}
