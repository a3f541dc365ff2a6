package retry

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

var policy = Policy{Tries: 6, First: time.Second, Max: 4 * time.Second}

// waits runs a policy in a bubble and returns the times between the attempts.
func waits(t *testing.T, ctx context.Context, try func(n int) (time.Duration, error)) (list []time.Duration, err error) {
	t.Helper()
	var last time.Time
	n := 0
	err = policy.Do(ctx, func() (time.Duration, error) {
		if n++; n > 1 {
			list = append(list, time.Since(last))
		}
		last = time.Now()
		return try(n)
	})
	return list, err
}

func TestWaitsDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := errors.New("failure")
		got, err := waits(t, t.Context(), func(int) (time.Duration, error) { return 0, fail })
		if err != fail || len(got) != policy.Tries-1 {
			t.Fatalf("%v after waits %v, want %d waits", err, got, policy.Tries-1)
		}
		for i, base := range []time.Duration{1, 2, 4, 4, 4} {
			if base *= time.Second; got[i] < base/2 || got[i] >= base*3/2 {
				t.Errorf("wait %d is %v, want %v to %v", i+1, got[i], base/2, base*3/2)
			}
		}
	})
}

// TestAskedWait checks that a wait that the attempt asks for is kept to, and that the policy's own
// wait does not grow meanwhile.
func TestAskedWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := waits(t, t.Context(), func(n int) (time.Duration, error) {
			switch n {
			case 1, 2:
				return 90 * time.Second, errors.New("busy")
			case 3:
				return 0, errors.New("failure")
			}
			return 0, nil
		})
		if err != nil || len(got) != 3 || got[0] != 90*time.Second || got[1] != 90*time.Second || got[2] >= 1500*time.Millisecond {
			t.Errorf("waits %v, %v", got, err)
		}
	})
}

func TestNever(t *testing.T) {
	fail := errors.New("failure")
	if got, err := waits(t, t.Context(), func(int) (time.Duration, error) { return Never, fail }); err != fail || got != nil {
		t.Errorf("%v after waits %v", err, got)
	}
}

// TestCancel ends the context during a wait, and during an attempt.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := waits(t, ctx, func(int) (time.Duration, error) { return time.Hour, errors.New("busy") })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		fail := errors.New("failure")
		if _, err := waits(t, ctx, func(int) (time.Duration, error) { return 0, fail }); err != fail {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
		for value, want := range map[string]time.Duration{
			"": 0, "7": 7 * time.Second, "0": 0, "-5": 0, "100000": time.Minute, "9000000000000000000": time.Minute,
			"soon": 0, "1.5": 0, date(30 * time.Second): 30 * time.Second, date(-time.Hour): 0, date(time.Hour): time.Minute,
		} {
			if got := After(value, time.Minute); got != want {
				t.Errorf("After(%q) = %v, want %v", value, got, want)
			}
		}
	})
}
